"""Pictures for a page: arrays as small data URIs, with the words that stand beneath them."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pangu_cv.report.palette import Tone

ImageArray = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Picture:
    """One image with its caption; ``note`` is a second, quieter line. The caption is also the alternative text."""

    image_HW3: ImageArray
    caption: str
    note: str = ""
    tone: Tone = "neutral"


@dataclass(frozen=True, eq=False)
class Row:
    """Pictures of one thing beside each other, under a common title; None leaves a cell empty."""

    pictures: tuple[Picture | None, ...]
    title: str
    note: str = ""
    tone: Tone = "neutral"


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A data URI and the size that it was scaled to."""

    uri: str
    width_px: int
    height_px: int


def encode(image_HW3: ImageArray, *, max_side_px: int) -> EncodedImage:
    """JPEG or PNG, whichever is smaller, scaled down (never up) to ``max_side_px``."""
    if image_HW3.dtype != np.uint8 or image_HW3.ndim != 3 or image_HW3.shape[2] != 3 or 0 in image_HW3.shape:
        raise ValueError(f"a picture is uint8 of shape (H, W, 3), not {image_HW3.dtype} of shape {image_HW3.shape}")
    image = Image.fromarray(np.ascontiguousarray(image_HW3))
    image.thumbnail((max_side_px, max_side_px), Image.Resampling.LANCZOS)
    jpeg, png = _save(image, "JPEG", quality=84, optimize=True), _save(image, "PNG", optimize=True)
    kind, data = ("jpeg", jpeg) if len(jpeg) < len(png) else ("png", png)
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return EncodedImage(uri, image.width, image.height)


def _save(image: Image.Image, kind: str, **options: int | bool) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
