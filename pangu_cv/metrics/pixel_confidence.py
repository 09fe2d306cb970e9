"""How sure a segmenter is of its pixels against their truth, counted in bins: memory does not grow with the images.

A segmenter tells the probability of the class it decided on. Of two classes that gives the other's too, so every pixel
is ranked; of more, a pixel is ranked under the class it was decided to be, and a curve ends at the recall of the mask.

Shapes: D classes that are no background, B bins of the probability, P pixels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics.bootstrap import Floats
from pangu_cv.metrics.calibration import Reliability

_BINS = 3000  # a multiple of the bins of every reliability drawn
_LEAST = 0.05  # below, the pixels that plainly show nothing would outnumber all others
_CHUNK_PIXELS = 1 << 20  # bounds the temporaries for one very large mask
Numbers = NDArray[np.uint8]


class PixelConfidence:
    """Streaming accumulator: ``update`` once per image, then curves, areas and reliability."""

    def __init__(self, classes: int) -> None:
        """``classes`` with the background, which is number 0."""
        self._classes = classes
        self._ranked_D2B = np.zeros((classes - 1, 2, _BINS), np.int64)  # [class, whether it is there, bin]
        self._there_D = np.zeros(classes - 1, np.int64)

    def update(self, truth_HW: Numbers, found_HW: Numbers, confidence_HW: NDArray[np.floating[Any]]) -> None:
        """Count one image; pixels whose truth is not below the number of classes (``IGNORE``) do not count."""
        for start in range(0, truth_HW.size, _CHUNK_PIXELS):
            chunk = slice(start, start + _CHUNK_PIXELS)
            self._count(truth_HW.ravel()[chunk], found_HW.ravel()[chunk], confidence_HW.ravel()[chunk])

    def _count(self, truth_P: Numbers, found_P: Numbers, confidence_P: NDArray[np.floating[Any]]) -> None:
        counts_P = truth_P < self._classes
        self._there_D += np.bincount(truth_P[counts_P], minlength=self._classes)[1:]
        if self._classes == 2:
            confidence_P = np.where(found_P > 0, confidence_P, 1 - confidence_P)
            found_P = np.ones_like(found_P)
        counts_P &= found_P > 0
        truth_P, found_P = truth_P[counts_P], found_P[counts_P].astype(np.int64)
        bin_P = (confidence_P[counts_P] * _BINS).astype(np.int64).clip(0, _BINS - 1)
        flat_P = (2 * (found_P - 1) + (truth_P == found_P)) * _BINS + bin_P
        self._ranked_D2B += np.bincount(flat_P, minlength=self._ranked_D2B.size).reshape(self._ranked_D2B.shape)

    def precision_recall(self, class_index: int) -> tuple[Floats, Floats] | None:
        """Recall, rising from 0, of the pixels of a class (1 is the first) and the precision there.

        None where no pixel shows the class, or none was ranked under it.
        """
        other_B, right_B = self._ranked_D2B[class_index - 1, :, ::-1].astype(np.float64)
        there, is_taken_B = self._there_D[class_index - 1], other_B + right_B > 0
        if there == 0 or not is_taken_B.any():
            return None
        found_B, flagged_B = np.cumsum(right_B)[is_taken_B], np.cumsum(right_B + other_B)[is_taken_B]
        precision_B = found_B / flagged_B
        return np.concatenate([[0.0], found_B / there]), np.concatenate([precision_B[:1], precision_B])

    def average_precision(self, class_index: int) -> float | None:
        """Area under precision over recall, by steps, one bin a tie; None where no pixel shows the class."""
        if self._there_D[class_index - 1] == 0:
            return None
        curve = self.precision_recall(class_index)
        return 0.0 if curve is None else float((np.diff(curve[0]) * curve[1][1:]).sum())

    def reliability(self, bins: int = 15) -> Reliability:
        """Probability of a class against the share of pixels that show it, from 0.05 up; ``bins`` divides 3000."""
        ranked_2B = self._ranked_D2B.sum(0)
        ranked_2B[:, : round(_LEAST * _BINS)] = 0
        middle_B = (np.arange(_BINS) + 0.5) / _BINS
        count_B, right_B, sum_B = (
            one.reshape(bins, -1).sum(1) for one in (ranked_2B.sum(0), ranked_2B[1], ranked_2B.sum(0) * middle_B)
        )
        divisor_B = np.where(count_B > 0, count_B, np.nan)
        return Reliability(sum_B / divisor_B, right_B / divisor_B, count_B)
