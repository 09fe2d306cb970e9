"""A drawing surface at twice the final size that also keeps track of which pixels still show the defect."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pangu_cv.data.scenes.noise import Floats

OVERSAMPLE = 2
Colour = tuple[int, ...]


class Canvas:
    """Painter's algorithm: whatever is drawn later covers, and takes covered pixels out of the defect's mask.

    Coordinates are canvas pixels; ``side_px`` is ``OVERSAMPLE`` times the final size.
    """

    def __init__(self, background: Image.Image, *, side_px: int) -> None:
        self.side_px = side_px
        # Doubling pixels is undone exactly by finish(): the background passes through unblurred.
        self.image = background.resize((side_px, side_px), Image.Resampling.NEAREST)
        self._draw = ImageDraw.Draw(self.image)
        self.mask: Image.Image | None = None
        self._mask_draw: ImageDraw.ImageDraw | None = None

    def polygon(self, points_K2: list[Any], fill: Colour) -> None:
        """A filled polygon of opaque colour."""
        self._draw.polygon(points_K2, fill)
        if self._mask_draw is not None:
            self._mask_draw.polygon(points_K2, 0)

    def line(self, points_K2: list[Any], fill: Colour, width_px: int) -> None:
        """An open line of opaque colour."""
        self._draw.line(points_K2, fill, width_px)
        if self._mask_draw is not None:
            self._mask_draw.line(points_K2, 0, width_px)

    def paste(self, sprite: Image.Image, corner_xy: tuple[int, int], *, defect: bool = False) -> None:
        """An RGBA sprite with its upper left corner at ``corner_xy``; ``defect`` adds it to the mask."""
        self.image.paste(sprite, corner_xy, sprite)
        alpha = sprite.getchannel("A")
        if defect:
            self.mark(alpha, corner_xy)
        elif self.mask is not None:
            self.mask.paste(0, corner_xy, alpha)

    def mark(self, coverage: Image.Image, corner_xy: tuple[int, int]) -> None:
        """Add to the defect's mask where an ``L`` image is above a quarter of full."""
        if self.mask is None:
            self.mask = Image.new("L", self.image.size)
            self._mask_draw = ImageDraw.Draw(self.mask)
        self.mask.paste(255, corner_xy, coverage.point([0] * 64 + [255] * 192))

    def finish(self) -> tuple[Image.Image, NDArray[np.uint8]]:
        """The image at its final size and its mask, uint8[H, W] of 0 and 255."""
        image = self.image.reduce(OVERSAMPLE)
        if self.mask is None:
            return image, np.zeros((image.height, image.width), np.uint8)
        visible = np.asarray(self.mask.reduce(OVERSAMPLE)) > 127
        return image, visible.astype(np.uint8) * np.uint8(255)


@dataclass(frozen=True, slots=True)
class Drawable:
    """Something at a distance; a scene draws its drawables from far to near."""

    depth_m: float
    draw: Callable[[Canvas], None]


def to_colours(values_N3: Floats) -> list[Colour]:
    """Colours of 0 to 1 as bytes."""
    return [tuple(row) for row in np.minimum(np.maximum(values_N3 * 255.0, 0), 255).astype(np.uint8).tolist()]


def to_colour(values_3: Floats) -> Colour:
    """A colour of 0 to 1 as bytes."""
    red, green, blue = np.clip(np.asarray(values_3) * 255.0, 0, 255).astype(np.uint8).tolist()
    return (red, green, blue)
