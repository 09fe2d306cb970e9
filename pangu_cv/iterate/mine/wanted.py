"""Which images are like those that were wanted: ridge regression from a few answers and all the unanswered.

Positive and unlabelled learning where what is wanted is rare: every image without an answer counts as a weak "no", so
that a few "yes" are held against what the whole pool looks like (ours; with one "yes" it is a whitened similarity).

Shapes: N images, K numbers of each.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BLOCK = 8192
_UNANSWERED = 0.1  # weight of an image nobody answered for, beside a "no" of 1
_BALANCE = 0.3  # what all "yes" weigh together, as a share of all else
_PENALTY = 0.1  # ridge penalty, as a share of the total weight over ten


class Wanted:
    """Sums over the pool, taken once; a fit costs K³ however many images there are."""

    def __init__(self, features_NK: NDArray[np.float32]) -> None:
        self._features = features_NK
        width = features_NK.shape[1]
        self._sum, self._outer = np.zeros(width), np.zeros((width, width))
        for start in range(0, len(features_NK), _BLOCK):
            block = features_NK[start : start + _BLOCK].astype(np.float64)
            self._sum += block.sum(0)
            self._outer += block.T @ block

    def scores(self, yes: Sequence[int], no: Sequence[int]) -> NDArray[np.float32]:
        """How much each image is like what got a "yes" (at least one): float32[N], larger is more."""
        count = len(self._features)
        rest = count - len(yes) - len(no)
        total = _UNANSWERED * rest + len(no)
        weight_yes = max(_BALANCE * total / len(yes), _UNANSWERED)
        answered = self._features[[*yes, *no]].astype(np.float64)
        weights = np.array([weight_yes] * len(yes) + [1.0] * len(no))
        extra = weights - _UNANSWERED
        sum_K = _UNANSWERED * self._sum + extra @ answered
        outer = _UNANSWERED * self._outer + (answered * extra[:, None]).T @ answered
        total += weight_yes * len(yes)
        mean_K, mean_target = sum_K / total, weight_yes * len(yes) / total
        centred = outer - total * np.outer(mean_K, mean_K)
        towards = weight_yes * answered[: len(yes)].sum(0) - total * mean_target * mean_K
        slope = np.linalg.solve(centred + _PENALTY * total / 10 * np.eye(len(mean_K)), towards)
        found = np.empty(count, np.float32)
        for start in range(0, count, _BLOCK):
            found[start : start + _BLOCK] = (self._features[start : start + _BLOCK] - mean_K) @ slope + mean_target
        return found
