"""One shape of labelme: what its points mean, the box around it, and its outline."""

import base64
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pangu_cv.data.outlines import Polygon, Runs, polygon, runs_of
from pangu_cv.data.readers.annotation import are_of_size, numbers
from pangu_cv.errors import DataError, ImageError
from pangu_runtime.decode import DecodeSpec, decode, peek

_SAGITTA_PX = 0.05  # a circle's corners lie so near together that no edge is farther inside it
_FARTHEST = 1e8  # pixels: beyond any image
_SHAPES = re.compile(r'"shapes"\s*:\s*\[\s*[{\]]')
_FIRST_KEY = re.compile(
    r'\s*\{\s*"(version|flags|checked|lineColor|fillColor|imagePath|imageData|imageHeight|imageWidth)"'
)
_IMAGE = re.compile(r'"imageData"\s*:\s*"')  # where keys are sorted it comes before the shapes
_HEAD_BYTES = 1 << 16
_FILES_OPENED = 50


@dataclass(frozen=True, slots=True)
class Shape:
    """Its points (x, y) in pixels of the upright image; of a ``mask`` two, around the PNG in ``png_base64``."""

    label: str
    kind: str
    points: tuple[tuple[float, ...], ...]
    group: str | None
    png_base64: str | None


def begins_with_shapes(file: Path) -> bool:
    """Whether a JSON file begins as labelme's do: measurements lie beside images too."""
    try:
        if not file.is_file():  # a pipe would be waited for
            return False
        with file.open("rb") as stream:
            head = stream.read(_HEAD_BYTES).decode("utf-8-sig", errors="replace")
    except OSError:
        return False
    if not head.lstrip().startswith("{"):
        return False
    return bool(_SHAPES.search(head) or (_FIRST_KEY.match(head) and _IMAGE.search(head)))


def holds_shapes(folder: Path, names: Iterable[str]) -> bool:
    """Whether one of the first files of a folder begins as labelme's do."""
    files = sorted(name for name in names if name.lower().endswith(".json") and not name.startswith("."))
    return any(begins_with_shapes(folder / name) for name in files[:_FILES_OPENED])


def shape_from(entry: dict[str, Any], place: str) -> Shape:
    """Raises DataError for one without a label or points, or with points that are none. Old files name no kind."""
    label = _label(entry.get("label"), place)
    told = entry.get("points")
    if not isinstance(told, list) or not told or not all(isinstance(point, list) for point in told):
        raise DataError(f"{place}: 'points' must be a list of [x, y]; found {str(told)[:80]}")
    points = tuple(numbers(point, count=2, place=place) for point in told)
    if not (np.abs(points) < _FARTHEST).all():  # nor for NaN
        raise DataError(f"{place}: its points are no numbers of pixels; found {str(told)[:80]}")
    kind = str(entry.get("shape_type") or "polygon")
    if kind in ("circle", "mask") and len(points) != 2:
        raise DataError(f"{place}: a {kind} has two points, found {len(points)}")
    png = entry.get("mask")
    if kind == "mask" and not isinstance(png, str):
        raise DataError(f"{place}: a mask needs its picture as text in 'mask'; found {type(png).__name__}")
    group = entry.get("group_id")
    if isinstance(group, float) and group.is_integer():
        group = int(group)
    is_grouped = isinstance(group, int | str) and not isinstance(group, bool) and group != ""
    return Shape(label, kind, points, str(group) if is_grouped else None, png)


def _label(told: Any, place: str) -> str:
    if not isinstance(told, str | int) or isinstance(told, bool) or not (label := str(told).strip()):
        raise DataError(f"{place}: a label is needed, a text or a number; found {str(told)[:80]!r}")
    return label


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
    except ValueError as error:
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
    left, top = (math.floor(value) for value in shape.points[0])  # labelme draws it there when it was dragged
    x0, y0, x1, y1 = extent(shape)
    try:
        content = base64.b64decode(shape.png_base64 or "")
        header = peek(content)
        if not are_of_size((x1 - x0, y1 - y0), (header.width_px, header.height_px)):
            size = f"{header.width_px} x {header.height_px}"
            raise ValueError(f"its picture has {size} pixels, its points say {x1 - x0:g} x {y1 - y0:g}")
        if header.format != "PNG" or header.bit_depth > 8:
            raise ValueError(f"its picture is {header.kind}; a PNG of 1 or 8 bits is needed")
        inside_hw = decode(content, spec=DecodeSpec(background=0)).max(axis=2) > 0
    except ImageError as error:
        raise ValueError(f"its picture cannot be read: {error.reason}") from None
    return runs_of(inside_hw, left_px=left, top_px=top, height_px=height_px, width_px=width_px)
