"""Large images in overlapping tiles: which tiles, and one answer from the answers of all of them.

A graph takes one tile at a time, so that memory does not grow with the image. This is the single step of a decision
that lies outside the graph; ``bundle.json`` states the tile's side and overlap, and the golden answers cover it.

Shapes: H×W pixels of the image, T tiles, K boxes.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_runtime.errors import DataError

Outputs = dict[str, NDArray[Any]]
_EDGE_PX = 2.0  # a box that comes so near an inner edge of its tile has been cut by it
_COVERED = 0.7  # share of a box inside another of its class from which both are one object
_WHOLE = 2  # a whole box goes before a cut one of up to so many times its score


@dataclass(frozen=True)
class Tiling:
    """Square tiles of ``px`` a side that share at least ``overlap`` of it with the next; smaller images are one tile.

    Raises DataError for values that make no tiling.
    """

    px: int
    overlap: float

    def __post_init__(self) -> None:
        if self.px < 32 or not 0 <= self.overlap <= 0.5:
            raise DataError(
                f"tile: px {self.px}, overlap {self.overlap}; allowed is px of 32 or more, overlap 0 to 0.5"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Tiling":
        """The inverse."""
        return cls(int(values["px"]), float(values["overlap"]))

    def windows(self, height: int, width: int) -> list[tuple[int, int, int, int]]:
        """Left, top, right, bottom of every tile, row by row, spread evenly; all are of the same size."""
        rows, columns = self._starts(height), self._starts(width)
        h, w = min(self.px, height), min(self.px, width)
        return [(x, y, x + w, y + h) for y in rows for x in columns]

    def _starts(self, length: int) -> list[int]:
        if length <= self.px:
            return [0]
        step = self.px * (1 - self.overlap)
        count = int(np.ceil((length - self.px) / step)) + 1
        return [round(i * (length - self.px) / (count - 1)) for i in range(count)]


def run_tiled(run: Callable[[NDArray[np.uint8]], Outputs], image_1HW3: NDArray[np.uint8], tiling: Tiling) -> Outputs:
    """``run`` on every tile of one image, and the outputs of a whole image from them."""
    height, width = image_1HW3.shape[1:3]
    windows = tiling.windows(height, width)
    if len(windows) == 1:
        return run(image_1HW3)
    parts = ((box, run(np.ascontiguousarray(image_1HW3[:, box[1] : box[3], box[0] : box[2]]))) for box in windows)
    first_box, first = next(iter(parts))
    merge = _Boxes(height, width) if "boxes_xyxy" in first else _Masks(height, width)
    merge.add(first_box, first)
    for box, outputs in parts:
        merge.add(box, outputs)
    return merge.outputs


class _Masks:
    """In overlaps the tile decides whose middle is nearer."""

    def __init__(self, height: int, width: int) -> None:
        self.mask_HW = np.zeros((height, width), np.uint8)
        self.confidence_HW = np.zeros((height, width), np.float32)
        self.nearness_HW = np.full((height, width), -1.0, np.float32)

    def add(self, window: tuple[int, int, int, int], outputs: Outputs) -> None:
        x0, y0, x1, y1 = window
        place = (slice(y0, y1), slice(x0, x1))
        nearness = np.minimum(_rim(y1 - y0)[:, None], _rim(x1 - x0)[None])
        wins = nearness > self.nearness_HW[place]
        self.mask_HW[place][wins] = outputs["mask"][0][wins]
        self.confidence_HW[place][wins] = outputs["confidence"][0][wins]
        self.nearness_HW[place][wins] = nearness[wins]

    @property
    def outputs(self) -> Outputs:
        return {"mask": self.mask_HW[None], "confidence": self.confidence_HW[None]}


class _Boxes:
    """All boxes of all tiles in one list; of those that are one object the first stays.

    Accepted boxes come first, so that none gives way to a rejected one; then the best, a whole one's score doubled: a
    whole one of less than half the score of a piece gives way to it.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.boxes: list[NDArray[Any]] = []
        self.scores: list[NDArray[Any]] = []
        self.labels: list[NDArray[Any]] = []
        self.is_cut: list[NDArray[Any]] = []
        self.threshold = np.zeros(1, np.float32)

    def add(self, window: tuple[int, int, int, int], outputs: Outputs) -> None:
        x0, y0, x1, y1 = window
        alive = outputs["scores"][0] > 0
        boxes = outputs["boxes_xyxy"][0][alive]
        inner = (x0 > 0, y0 > 0, x1 < self.width, y1 < self.height)
        gaps = np.stack([boxes[:, 0], boxes[:, 1], (x1 - x0) - boxes[:, 2], (y1 - y0) - boxes[:, 3]], 1)
        self.is_cut.append(((gaps <= _EDGE_PX) & np.array(inner)).any(1))
        self.boxes.append(boxes + np.array([x0, y0, x0, y0], boxes.dtype))
        self.scores.append(outputs["scores"][0][alive])
        self.labels.append(outputs["labels"][0][alive])
        self.threshold = outputs["threshold_applied"]

    @property
    def outputs(self) -> Outputs:
        boxes, scores, labels, is_cut = map(np.concatenate, (self.boxes, self.scores, self.labels, self.is_cut))
        by_label: dict[int, list[int]] = {int(label): [] for label in labels}
        kept: list[int] = []
        weights = np.where(is_cut, scores, _WHOLE * scores)
        for at in np.lexsort((is_cut, -weights, scores < self.threshold[0])):
            mine = by_label[int(labels[at])]
            may_be_part = is_cut[at] & ~is_cut[mine]
            if not mine or _covered(boxes[at], boxes[mine], may_be_part).max() < _COVERED:
                mine.append(int(at))
                kept.append(int(at))
        order = sorted(kept, key=lambda at: -scores[at])
        count = np.array([int((scores[order] >= self.threshold[0]).sum())])
        return {
            "boxes_xyxy": boxes[order][None],
            "scores": scores[order][None],
            "labels": labels[order][None],
            "count": count,
            "threshold_applied": self.threshold,
        }


def _covered(box: NDArray[Any], others_K4: NDArray[Any], may_be_part_K: NDArray[np.bool_]) -> NDArray[Any]:
    """Share of the smaller of two boxes that lies in the other, float[K]; of ``box`` itself where it may be a part.

    A cut box may be a part of a whole one that is kept; if it is much larger than that one, it is another object.
    """
    low, high = np.maximum(box[:2], others_K4[:, :2]), np.minimum(box[2:], others_K4[:, 2:])
    inter = (high - low).clip(0).prod(1)
    areas = np.where(may_be_part_K, np.inf, (others_K4[:, 2:] - others_K4[:, :2]).prod(1))
    return np.asarray(inter / np.maximum(np.minimum(areas, (box[2:] - box[:2]).prod()), 1e-9))


def _rim(length: int) -> NDArray[np.float32]:
    """How far from the nearer end, 1 at the ends."""
    at = np.arange(length, dtype=np.float32)
    return np.minimum(at, at[::-1]) + 1
