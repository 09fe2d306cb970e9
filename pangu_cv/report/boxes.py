"""Boxes drawn onto the image they belong to; numpy and pillow only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pangu_cv.report.picture import ImageArray

Colour = tuple[int, int, int]
FOUND: Colour = (0, 229, 255)  # cyan is rare on parts


@dataclass(frozen=True)
class Drawn:
    """One box: left, top, right, bottom in pixels of the image, its words and its colour."""

    xyxy: Sequence[float]
    text: str
    colour: Colour = FOUND


def draw_boxes(image_HW3: ImageArray, boxes: Sequence[Drawn], *, most_px: int | None = None) -> ImageArray:
    """The image with its boxes, scaled down (never up) to ``most_px`` a side where that is given."""
    picture = Image.fromarray(image_HW3)
    scale = min(1.0, (most_px or max(picture.size)) / max(picture.size))
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    draw = ImageDraw.Draw(picture)
    size = max(12, round(max(picture.size) / 60))
    font, width = ImageFont.load_default(size), max(2, size // 6)
    for box in boxes:
        x0, y0, x1, y1 = (float(value) * scale for value in box.xyxy)
        draw.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=box.colour, width=width)
        place = (x0 + width + 1, y0 + width)
        draw.text(place, box.text, fill=box.colour, font=font, stroke_width=1, stroke_fill=(0, 0, 0))
    return np.asarray(picture, np.uint8)
