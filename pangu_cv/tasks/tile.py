"""Large images in overlapping tiles, in training and at the line."""

from typing import Annotated

from pydantic import Field

from pangu_cv.errors import SettingsError
from pangu_cv.settings import Settings


class TileConfig(Settings):
    """What the network sees of a large image at a time; the parts' answers are merged."""

    px: Annotated[int, Field(ge=32)] = 640
    """Side of a tile in pixels of the image."""
    overlap: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    """Share of a tile that the next one shows too: objects up to this size are whole in one of them."""


def require_multiple(image_px: int, *, of: int) -> None:
    """Raises SettingsError where the levels of a dense head would not fit the network's input."""
    if image_px % of:
        raise SettingsError(
            f"task.preprocess.image_px: {image_px} is no multiple of {of}, which the head's levels need; "
            f"take {max(1, round(image_px / of)) * of}"
        )
