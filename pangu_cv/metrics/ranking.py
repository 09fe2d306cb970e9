"""How well scores put the positive images above the others, whatever the threshold.

Shapes: N images, R resamples, S distinct scores.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics.bootstrap import Floats, share


@dataclass(frozen=True, eq=False)
class Ranking:
    """Scores of N images, higher for likelier positive, and which of them are; areas are None without both kinds."""

    scores_N: NDArray[np.floating[Any]]
    is_positive_N: NDArray[np.bool_]

    @property
    def has_both_kinds(self) -> bool:
        """Whether positive and other images both occur, which every ranking needs."""
        return bool(self.is_positive_N.any() and not self.is_positive_N.all())

    @property
    def auroc(self) -> float | None:
        """Chance that a positive image scores above another one."""
        if not self.has_both_kinds:
            return None
        from sklearn.metrics import roc_auc_score

        return float(roc_auc_score(self.is_positive_N, self.scores_N))

    @property
    def average_precision(self) -> float | None:
        """Area under precision over recall, by steps; its floor is the share of positive images."""
        if not self.has_both_kinds:
            return None
        from sklearn.metrics import average_precision_score

        return float(average_precision_score(self.is_positive_N, self.scores_N))

    def roc(self) -> tuple[Floats, Floats]:
        """Share of the others and share of the positive images at or above each threshold, both rising from 0 to 1."""
        self._require_both_kinds()
        from sklearn.metrics import roc_curve

        false_alarms, found, _ = roc_curve(self.is_positive_N, self.scores_N)
        return false_alarms, found

    def precision_recall(self) -> tuple[Floats, Floats]:
        """Recall, rising from 0, and the precision there."""
        self._require_both_kinds()
        from sklearn.metrics import precision_recall_curve

        precision, recall, _ = precision_recall_curve(self.is_positive_N, self.scores_N, drop_intermediate=True)
        return recall[::-1], precision[::-1]

    def _require_both_kinds(self) -> None:
        if not self.has_both_kinds:
            raise ValueError("a curve needs images of both kinds")

    def auroc_R(self, counts_RN: Floats) -> Floats:
        """``auroc`` of each row of counts, a ``metrics.bootstrap.Figure``."""
        positive_RS, other_RS = self._by_score(counts_RN)
        above_RS = other_RS.sum(1, keepdims=True) - np.cumsum(other_RS, axis=1)
        won_R = (positive_RS * (above_RS + other_RS / 2)).sum(1)
        return share(won_R, positive_RS.sum(1) * other_RS.sum(1))

    def average_precision_R(self, counts_RN: Floats) -> Floats:
        """``average_precision`` of each row of counts, a ``metrics.bootstrap.Figure``."""
        positive_RS, other_RS = self._by_score(counts_RN)
        found_RS, flagged_RS = np.cumsum(positive_RS, axis=1), np.cumsum(positive_RS + other_RS, axis=1)
        area_R = (positive_RS * found_RS / np.maximum(flagged_RS, 1)).sum(1)
        return np.where(other_RS.sum(1) > 0, share(area_R, positive_RS.sum(1)), np.nan)

    def _by_score(self, counts_RN: Floats) -> tuple[Floats, Floats]:
        """Positive and other images at each distinct score, the highest first."""
        order_N, first_S = self._order
        sorted_RN, is_positive_N = counts_RN[:, order_N], self.is_positive_N[order_N]
        positive_RS, other_RS = (
            np.add.reduceat(sorted_RN * kind, first_S, axis=1) for kind in (is_positive_N, ~is_positive_N)
        )
        return positive_RS, other_RS

    @cached_property
    def _order(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Images by falling score, and where in that order each distinct score begins."""
        order_N = np.argsort(-self.scores_N, kind="stable")
        changes = np.diff(self.scores_N[order_N], prepend=np.inf) != 0
        return order_N, np.flatnonzero(changes)
