"""Boxes matched once, so that average precision over any draw of the images costs sums and no new matching.

COCO matches boxes within an image, so what an image's boxes hit does not depend on the images beside it. What does is
their order by score and the number of true boxes: here those are taken with each image counting as often as it is
drawn. With every image counting once it is pycocotools' figure to the last digit but rounding.

Shapes: R resamples, N images, M of them with a box of one class, T levels of IoU, D found boxes of that class in all
images, H hits among them.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics.bootstrap import Floats

_MOST_CELLS = 1 << 20  # bounds the memory of a block of resamples: 8 MiB an array, however many boxes hit
RECALLS = np.linspace(0, 1, 101)  # COCO's; precision is read at each


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """One class: its found boxes, best first, with their image and what they hit, and the true boxes of each image.

    ``image_M`` are the places of the images that have a box of it, found or true; ``image_D`` are places among those.
    """

    image_M: NDArray[np.integer[Any]]
    image_D: NDArray[np.integer[Any]]
    score_D: Floats
    is_hit_TD: NDArray[np.bool_]
    truth_M: NDArray[np.integer[Any]]

    def ap_R(self, counts_RN: Floats, levels: slice = slice(None)) -> Floats:
        """Mean over IoU ``levels`` of COCO's average precision for each row of counts; NaN where no true box is."""
        rows = max(1, _MOST_CELLS // max(1, len(self._at_H)))
        blocks = (counts_RN[start : start + rows] for start in range(0, len(counts_RN), rows))
        return np.concatenate([self._block_R(block, levels) for block in blocks])

    def _block_R(self, counts_RN: Floats, levels: slice) -> Floats:
        counts_RM = counts_RN[:, self.image_M]
        truth_R, hits_TH = counts_RM @ self.truth_M, self.is_hit_TD[levels][:, self._at_H]
        # Along the last axis numpy sums several times faster.
        found_RH = np.cumsum(np.ascontiguousarray((self._found_HM @ counts_RM.T).T), axis=1)
        total_R = np.zeros(len(counts_RN))
        for is_hit_H in hits_TH:
            hits_RH = np.cumsum(np.take(counts_RM, self.image_D[self._at_H[is_hit_H]], axis=1), axis=1)
            total_R += _area(hits_RH, np.compress(is_hit_H, found_RH, axis=1), truth_R)
        return np.where(truth_R > 0, total_R / len(hits_TH), np.nan)

    @cached_property
    def _at_H(self) -> NDArray[np.intp]:
        """Places of the boxes that hit at any level: precision is read there only."""
        return np.flatnonzero(self.is_hit_TD.any(0))

    @cached_property
    def _found_HM(self) -> Any:
        """How many boxes of each image come after one of those places and up to the next; sparse."""
        from scipy.sparse import csr_array  # type: ignore[import-untyped]

        place_D = np.searchsorted(self._at_H, np.arange(len(self.image_D)))
        counts_D = place_D < len(self._at_H)
        cells = (place_D[counts_D], self.image_D[counts_D])
        return csr_array((np.ones(len(cells[0])), cells), shape=(len(self._at_H), len(self.truth_M)))


def _area(hits_RH: Floats, found_RH: Floats, truth_R: Floats) -> Floats:
    """Mean over ``RECALLS`` of the best precision at that recall or a higher one."""
    precision_RH = hits_RH / np.maximum(found_RH, 1)
    best_RH = np.maximum.accumulate(precision_RH[:, ::-1], axis=1)[:, ::-1]
    reached_RH = _recalls_reached(hits_RH / np.maximum(truth_R, 1)[:, None])
    steps_RH = np.diff(reached_RH, axis=1, prepend=0)
    return np.asarray(np.einsum("rh,rh->r", best_RH, steps_RH) / len(RECALLS))


def _recalls_reached(recall_RH: Floats) -> NDArray[np.int64]:
    """How many of ``RECALLS`` are at most each recall, the 0 included; as ``searchsorted``, and faster."""
    place_RH = (recall_RH * (len(RECALLS) - 1) + 1e-6).astype(np.int64)
    return place_RH + 1 - (RECALLS[place_RH] > recall_RH)
