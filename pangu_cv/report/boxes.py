"""Boxes drawn onto the image they belong to; numpy and pillow only.

Pillow's font has few glyphs beyond ASCII, and fonts of the system would make pictures differ between machines. So a
class whose name it cannot write is drawn as its number, and the words beside the picture say what that stands for.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache

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


def drawn_names(classes: Sequence[str]) -> dict[str, str]:
    """What pictures call each class: its name, or its number, such as ``#2``, where the font lacks a glyph of it."""
    return {name: name if all(map(_has_glyph, name)) else f"#{number}" for number, name in enumerate(classes)}


def key_of(classes: Sequence[str], shown: Collection[str]) -> str:
    """The numbers that stand for names of the classes shown, ``#0 = 划痕, #2 = 凹坑``; empty where there are none."""
    pairs = drawn_names(classes).items()
    return ", ".join(f"{drawn} = {name}" for name, drawn in pairs if name in shown and drawn != name)


@cache
def _has_glyph(character: str) -> bool:
    font = ImageFont.load_default(20)
    drawn, missing = (font.getmask(one) for one in (character, "\uffff"))  # no font has a glyph for U+FFFF
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)


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
