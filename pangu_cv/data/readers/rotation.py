"""Rectangles that were turned: CVAT exports them as they were before, with the angle beside them."""

import math
from typing import Any

from pangu_cv.data.readers.annotation import Notes


def upright(corners: tuple[float, ...], told: Any, *, place: str, notes: Notes) -> tuple[float, ...]:
    """The upright box around one (left, top, right, bottom) that is turned about its middle by ``told`` degrees.

    The box itself where ``told`` is no angle, or the box has no area.
    """
    try:
        degrees = float(str(told))  # not float(told): a ticked box of that name is no angle of 1
    except ValueError:
        return corners
    x0, y0, x1, y1 = corners
    if not math.isfinite(degrees) or degrees % 180 == 0 or not (x0 < x1 and y0 < y1):
        return corners
    notes.add("boxes are rotated and were replaced by the upright boxes around them", place)
    cosine, sine = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    x, half_width = (x0 + x1) / 2, ((x1 - x0) * cosine + (y1 - y0) * sine) / 2
    y, half_height = (y0 + y1) / 2, ((x1 - x0) * sine + (y1 - y0) * cosine) / 2
    return x - half_width, y - half_height, x + half_width, y + half_height
