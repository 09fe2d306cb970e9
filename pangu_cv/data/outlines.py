"""Outlines of objects as pixels: polygons and run lengths, as tools for labelling write them.

A pixel belongs to an outline where its middle does, of polygons that cross themselves by the even-odd rule. Polygons of
whole numbers were traced along pixels (``cv2.findContours``): those pixels belong to them too, or a crack one pixel
wide would be lost. Nothing an annotation says can make more memory than a few bytes for each of its image's pixels.

Shapes: H×W pixels of an image, K points of a polygon.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.masks import IGNORE, is_background
from pangu_cv.data.sample import Split

Polygon = NDArray[np.float64]
"""[K,2]: x and y in pixels of the upright image."""
Bools = NDArray[np.bool_]
_WHOLE = 0.01  # pixels; shares of an image's side are rounded
_FARTHEST = 1e8  # pixels: beyond any image, and products of two are exact enough
_MOST_BITS = 50  # of one run length: far beyond any image, within an int64


@dataclass(frozen=True, eq=False)
class Runs:
    """COCO's run lengths: pixels outside and inside in turn, column by column, for an image of this size."""

    height_px: int
    width_px: int
    counts: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Outline:
    """One object: its class, and where it is; a shape of None is known by its box alone.

    A label of None is no class: what is there is neither learnt from nor measured. One of the background is nothing.
    """

    label: str | None
    shape: tuple[Polygon, ...] | Runs | None

    @property
    def area_px(self) -> float:
        """About so many pixels; of polygons that cross themselves less."""
        if isinstance(self.shape, Runs):
            return float(self.shape.counts[1::2].sum())
        return sum(_area(polygon_K2) for polygon_K2 in self.shape or ())


@dataclass(frozen=True, eq=False)
class Outlined:
    """The objects of an image, and the widths and heights they were drawn at; infinite where that is not said."""

    objects: tuple[Outline, ...]
    stated_px: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, eq=False)
class Outlines:
    """Those of a dataset by the resolved paths of its images, and what was noticed.

    ``classes`` are the names in the order of their numbers, empty where nothing says one; ``splits`` those of images
    that have others for masks than for boxes.
    """

    by_image: Mapping[Path, Outlined]
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    splits: Mapping[Path, Split | None] | None = None


def class_mask_of(
    objects: Iterable[Outline], classes: Sequence[str], *, height_px: int, width_px: int
) -> tuple[NDArray[np.uint8], int]:
    """Class numbers uint8[H,W] (0: none, ``IGNORE``: no matter what), large objects below small ones, what is ignored
    over all; and how many objects cover no pixel.

    Raises ValueError for run lengths of another size, and for a shape that is None.
    """
    mask_HW = np.zeros((height_px, width_px), np.uint8)
    empty = 0
    for one in sorted(objects, key=lambda one: (one.label is None, -one.area_px)):
        if one.shape is None:
            raise ValueError("an object without an outline cannot be drawn")
        number, covered = _number(one.label, classes), 0
        for rows, columns, inside in _pieces(one.shape, height_px, width_px):
            mask_HW[rows, columns][inside] = number
            covered += int(inside.sum())
        empty += not covered
    return mask_HW, empty


def _number(label: str | None, classes: Sequence[str]) -> int:
    if label is None:
        return IGNORE
    return 0 if is_background(label) else classes.index(label)


def polygon(numbers: Sequence[Any]) -> Polygon:
    """Of x and y in turn; raises ValueError or TypeError where they are not the numbers of three points or more."""
    flat = np.array([float(number) for number in numbers], np.float64)
    if flat.size < 6 or flat.size % 2 or not np.isfinite(flat).all():
        raise ValueError(f"{flat.size} numbers; x and y of at least 3 points are needed")
    return flat.clip(-_FARTHEST, _FARTHEST).reshape(-1, 2)


def runs_from(text: str) -> NDArray[np.int64]:
    """The counts of COCO's compressed form: 5 bits a character, the lowest first, most as differences.

    Raises ValueError where it is not of this form.
    """
    counts: list[int] = []
    value = bits = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or bits > _MOST_BITS:
            raise ValueError(f"'{character}' does not belong into run lengths")
        value |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << bits
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = bits = 0
    if bits:
        raise ValueError("the run lengths break off")
    return np.array(counts, np.int64)


def runs_of(inside_hw: Bools, *, left_px: int, top_px: int, height_px: int, width_px: int) -> Runs:
    """Pixels [h,w] within an image H×W, the first at ``left_px`` and ``top_px``; what lies outside is cut."""
    rows, columns = (slice(max(0, -at), max(0, side - at)) for at, side in ((top_px, height_px), (left_px, width_px)))
    cut_hw = inside_hw[rows, columns]
    # Column by column, with a pixel outside above and below each: where the next differs, a run begins or ends.
    framed_wh = np.zeros((cut_hw.shape[1], cut_hw.shape[0] + 2), bool)
    framed_wh[:, 1:-1] = cut_hw.T
    column_R, row_R = np.nonzero(framed_wh[:, 1:] != framed_wh[:, :-1])
    edges_R = (column_R + max(0, left_px)) * height_px + row_R + max(0, top_px)
    return Runs(height_px, width_px, np.diff(edges_R, prepend=0, append=height_px * width_px))


def _pieces(shape: tuple[Polygon, ...] | Runs, height_px: int, width_px: int) -> Iterable[tuple[slice, slice, Bools]]:
    """Windows of the image, and which of their pixels are inside."""
    if isinstance(shape, Runs):
        if (shape.height_px, shape.width_px) != (height_px, width_px):
            size = f"{shape.width_px} x {shape.height_px}"
            raise ValueError(f"its run lengths are for {size} pixels, the image has {width_px} x {height_px}")
        pixels = height_px * width_px  # each is held to it first: sums of larger ones wrap
        if (shape.counts < 0).any() or (shape.counts > pixels).any() or shape.counts.sum() != pixels:
            raise ValueError(f"its run lengths do not add up to the {width_px} x {height_px} pixels of the image")
        yield _unrolled(shape)
        return
    for polygon_K2 in shape:
        yield _filled(polygon_K2, height_px, width_px)


def _unrolled(runs: Runs) -> tuple[slice, slice, Bools]:
    """The columns from the first run inside to the last: of many small objects each would cost the whole image."""
    ends = np.concatenate([[0], runs.counts.cumsum()])
    is_inside = np.arange(len(runs.counts)) % 2 == 1
    held = np.flatnonzero(is_inside & (runs.counts > 0))
    if not held.size:
        return slice(0), slice(0), np.zeros((0, 0), bool)
    x0, x1 = int(ends[held[0]]) // runs.height_px, -(-int(ends[held[-1] + 1]) // runs.height_px)
    counts = np.diff(ends.clip(x0 * runs.height_px, x1 * runs.height_px))
    return slice(None), slice(x0, x1), np.repeat(is_inside, counts).reshape(x1 - x0, runs.height_px).T


def _filled(polygon_K2: Polygon, height_px: int, width_px: int) -> tuple[slice, slice, Bools]:
    """The polygon within the window around it: in each row, every edge that it crosses turns what lies to its right."""
    is_traced = bool((np.abs(polygon_K2 - np.round(polygon_K2)) < _WHOLE).all())
    corners_K2 = np.round(polygon_K2) + 0.5 if is_traced else polygon_K2
    (left, top), (right, bottom) = corners_K2.min(0), corners_K2.max(0)
    x0, x1 = (int(np.clip(np.floor(x), 0, width_px)) for x in (left, right + 1))
    y0, y1 = (int(np.clip(np.floor(y), 0, height_px)) for y in (top, bottom + 1))
    turns = np.zeros((y1 - y0, x1 - x0 + 1), bool)
    edge = np.zeros((y1 - y0, x1 - x0), bool)
    for a, b in zip(corners_K2, np.roll(corners_K2, -1, axis=0), strict=True):
        first, last = (int(np.clip(np.ceil(y - 0.5), y0, y1)) for y in sorted((a[1], b[1])))
        if first < last:
            rows = np.arange(first, last)
            crossed = a[0] + (rows + 0.5 - a[1]) * ((b[0] - a[0]) / (b[1] - a[1]))
            turns[rows - y0, np.clip(np.ceil(crossed - 0.5), x0, x1).astype(np.int64) - x0] ^= True
        if is_traced:
            _trace(edge, a - (x0, y0), b - (x0, y0))
            _trace(edge.T, (a - (x0, y0))[::-1], (b - (x0, y0))[::-1])
    return slice(y0, y1), slice(x0, x1), np.logical_xor.accumulate(turns, 1)[:, :-1] | edge


def _trace(edge_HW: Bools, a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    """Set the pixel of each row that the line from ``a`` to ``b`` (x, y) runs through the middle of."""
    height, width = edge_HW.shape
    first, last = (
        int(np.clip(y, 0, height)) for y in (np.ceil(min(a[1], b[1]) - 0.5), np.floor(max(a[1], b[1]) + 0.5))
    )
    rows = np.arange(first, last)
    slope = 0.0 if a[1] == b[1] else (b[0] - a[0]) / (b[1] - a[1])
    columns = np.floor(a[0] + (rows + 0.5 - a[1]) * slope)
    inside = (columns >= 0) & (columns < width)
    edge_HW[rows[inside], columns[inside].astype(np.int64)] = True


def _area(polygon_K2: Polygon) -> float:
    x_K, y_K = polygon_K2.T
    return abs(float(np.dot(x_K, np.roll(y_K, -1)) - np.dot(y_K, np.roll(x_K, -1)))) / 2
