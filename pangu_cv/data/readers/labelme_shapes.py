"""One shape of labelme: what its points mean, the box around it, and its outline."""

import base64
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pangu_cv.data.outlines import Polygon, Runs, polygon, runs_of
from pangu_cv.data.readers.annotation import numbers
from pangu_cv.errors import DataError
from pangu_runtime.decode import DEFAULT_SPEC

IGNORED = "__ignore__"
"""labelme's label of what is neither learnt from nor measured."""
_SAGITTA_PX = 0.05  # a circle's corners lie so near together that no edge is farther inside it

_KEYS = re.compile(r'"(shapes|imagePath|imageData)"\s*:')
_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Shape:
    """Its points (x, y) in pixels of the upright image; of a ``mask`` two, around the PNG in ``png_base64``."""

    label: str
    kind: str
    points: tuple[tuple[float, ...], ...]
    group: Any
    png_base64: str | None


def begins_with_shapes(file: Path) -> bool:
    """Whether a JSON file begins as labelme's do: measurements lie beside images too."""
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD_BYTES).decode("utf-8-sig", errors="replace")
    except OSError:
        return False
    return head.lstrip().startswith("{") and _KEYS.search(head) is not None


def shape_from(entry: dict[str, Any], place: str) -> Shape:
    """Raises DataError for one without a label or points, or with points that are none. Old files name no kind."""
    label = str(entry.get("label") or "").strip()
    if not label:
        raise DataError(f"{place}: has no label")
    told = entry.get("points")
    if not isinstance(told, list) or not told or not all(isinstance(point, list) for point in told):
        raise DataError(f"{place}: 'points' must be a list of [x, y]; found {str(told)[:80]}")
    points = tuple(numbers(point, count=2, place=place) for point in told)
    kind = str(entry.get("shape_type") or "polygon")
    if kind in ("circle", "mask") and len(points) != 2:
        raise DataError(f"{place}: a {kind} has two points, found {len(points)}")
    png = entry.get("mask")
    if kind == "mask" and not isinstance(png, str):
        raise DataError(f"{place}: a mask needs its picture as text in 'mask'; found {type(png).__name__}")
    return Shape(label, kind, points, entry.get("group_id"), png)


def extent(shape: Shape) -> tuple[float, ...]:
    """Left, top, right and bottom."""
    if shape.kind == "circle":
        (x, y), radius = shape.points[0], math.dist(*shape.points)
        return x - radius, y - radius, x + radius, y + radius
    xs, ys = zip(*shape.points, strict=True)
    last = 1 if shape.kind == "mask" else 0  # its second point is its last pixel
    return min(xs), min(ys), max(xs) + last, max(ys) + last


def outline(shape: Shape, *, width_px: int, height_px: int, place: str) -> tuple[Polygon, ...] | Runs | None:
    """In an image of this size; None for what has none (points, lines, boxes in space). Raises DataError."""
    try:
        match shape.kind:
            case "mask":
                return _runs(shape, width_px, height_px)
            case "circle":
                return (_circle(shape.points),)
            case "rectangle" if len(shape.points) == 2:
                x0, y0, x1, y1 = extent(shape)
                return (polygon([x0, y0, x1, y0, x1, y1, x0, y1]),)
            case "polygon" | "rectangle" | "rotation" | "oriented_rectangle" | "quadrilateral":
                return (polygon(np.ravel(shape.points).tolist()),)
            case _:
                return None
    except (ValueError, OverflowError) as error:
        raise DataError(f"{place}: the {shape.kind} '{shape.label}' cannot be drawn ({error})") from None


def _circle(points: Sequence[Sequence[float]]) -> Polygon:
    (x, y), radius = points[0], math.dist(*points)
    if not 0 < radius < 1e6:
        raise ValueError(f"its radius is {radius:g}")
    corners = max(12, math.ceil(math.pi / math.acos(max(0.0, 1 - _SAGITTA_PX / radius))))
    angles_K = np.arange(corners) * (2 * np.pi / corners)
    return polygon(np.stack([x + radius * np.cos(angles_K), y + radius * np.sin(angles_K)], 1).ravel().tolist())


def _runs(shape: Shape, width_px: int, height_px: int) -> Runs:
    """Of the PNG, whose size is held to the two points before it is decoded."""
    (left, top), (right, bottom) = (tuple(round(value) for value in point) for point in shape.points)
    size = (right - left + 1, bottom - top + 1)
    if min(size) < 1 or size[0] * size[1] > DEFAULT_SPEC.max_pixels:
        raise ValueError(f"its points say {size[0]} x {size[1]} pixels")
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape.png_base64 or "")), formats=["PNG"]) as file:
            if file.size != size:
                raise ValueError(f"it has {file.size[0]} x {file.size[1]} pixels, its points say {size[0]} x {size[1]}")
            inside_hw: NDArray[np.bool_] = np.asarray(file.convert("L")) > 0
    except (OSError, SyntaxError) as error:
        raise ValueError(f"its picture cannot be read: {error}") from None
    return runs_of(inside_hw, left_px=left, top_px=top, height_px=height_px, width_px=width_px)
