"""What a model costs as a gate: defective images that pass it (escapes) against good ones it rejects (overkill).

Any task gives an image one score; an image is rejected at or above a threshold. A threshold chosen on the images that
it is then measured on flatters itself, so every choice is measured twice: on those images, and cross-fitted, each half
of the images with the threshold that the other half chose.

Shapes: N images, S distinct scores.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics.interval import Interval, proportion_interval


@dataclass(frozen=True)
class Costs:
    """What one escape and one good image rejected cost, in any unit; both at least 0, not both 0."""

    escape: float
    overkill: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.escape, self.overkill]).all() and min(self.escape, self.overkill) >= 0 < self.total):
            raise ValueError(
                f"costs must be at least 0 and one of them more, not {self.escape:g} and {self.overkill:g}"
            )

    @property
    def total(self) -> float:
        """Both together."""
        return self.escape + self.overkill


@dataclass(frozen=True)
class Passage:
    """Shares with 95 % Wilson intervals, and the thresholds that they were measured at."""

    thresholds: tuple[float, ...]
    escapes: Interval
    """Of the defective images, those that passed."""
    overkill: Interval
    """Of the good images, those that were rejected."""

    @property
    def recall(self) -> float:
        """Share of the defective images that were rejected."""
        return 1 - self.escapes.mean

    def cost_per_1000(self, costs: Costs) -> float:
        """Mean cost of 1000 images with as many defective ones among them as here."""
        escaped, rejected = self.escapes.mean * self.escapes.n, self.overkill.mean * self.overkill.n
        return 1000 * (costs.escape * escaped + costs.overkill * rejected) / (self.escapes.n + self.overkill.n)


@dataclass(frozen=True, eq=False)
class Curve:
    """Shares of escapes and of overkill at every threshold that changes anything, from "none is rejected" down."""

    threshold_S: NDArray[np.float64]
    escapes_S: NDArray[np.float64]
    overkill_S: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Inspection:
    """Scores of N images, at least 0 and higher for likelier defective, which of them are, and what the score is.

    ``own_threshold`` is the one the model came with, None where it has none. Figures need images of both kinds: ask
    ``undefined`` first.
    """

    scores_N: NDArray[np.floating[Any]]
    is_defect_N: NDArray[np.bool_]
    score_is: str
    own_threshold: float | None = None

    @property
    def undefined(self) -> str | None:
        """Why nothing can be said, None where it can."""
        if self.is_defect_N.all():
            return "there is no good image here, so overkill cannot be measured"
        return None if self.is_defect_N.any() else "there is no defective image here, so escapes cannot be measured"

    @property
    def prevalence(self) -> float:
        """Share of defective images."""
        return float(self.is_defect_N.mean())

    @cached_property
    def curve(self) -> Curve:
        """Every balance of escapes and overkill; a threshold lies midway between the two scores that it parts."""
        score_S, place_N = np.unique(-self.scores_N.astype(np.float64), return_inverse=True)
        score_S = -score_S
        # Scores are float32 in the graph: its neighbours outside of all scores reject nothing, and everything.
        top, bottom = (
            np.nextafter(np.float32(s), np.float32(to)) for s, to in ((score_S[0], np.inf), (score_S[-1], 0))
        )
        threshold_S = np.concatenate([[top], (score_S[1:] + score_S[:-1]) / 2, [bottom]])
        found, rejected = (
            np.concatenate([[0], np.cumsum(np.bincount(place_N[kind], minlength=len(score_S)))]) / max(kind.sum(), 1)
            for kind in (self.is_defect_N, ~self.is_defect_N)
        )
        return Curve(threshold_S.astype(np.float64), 1 - found, rejected)

    def at(self, threshold: float) -> Passage:
        """Escapes and overkill at one threshold."""
        return self._passage(np.full(len(self.scores_N), threshold))

    def cross_fitted(self, rule: "Rule", *, seed: int = 0) -> Passage | None:
        """Each half measured with the threshold that ``rule`` chose on the other; None below two images of a kind.

        The halves are drawn at random with as many of each kind, and every image is measured once.
        """
        is_first_N = np.zeros(len(self.scores_N), bool)
        random = np.random.default_rng(seed)
        for kind in (self.is_defect_N, ~self.is_defect_N):
            members = random.permutation(np.flatnonzero(kind))
            if len(members) < 2:
                return None
            is_first_N[members[::2]] = True
        first, second = (rule(self._among(half)) for half in (is_first_N, ~is_first_N))
        return self._passage(np.where(is_first_N, second, first))

    def _among(self, kept_N: NDArray[np.bool_]) -> "Inspection":
        return Inspection(self.scores_N[kept_N], self.is_defect_N[kept_N], self.score_is)

    def _passage(self, threshold_N: NDArray[np.float64]) -> Passage:
        rejected_N, is_defect_N = self.scores_N >= threshold_N, self.is_defect_N
        escapes = proportion_interval(int((~rejected_N & is_defect_N).sum()), int(is_defect_N.sum()))
        overkill = proportion_interval(int((rejected_N & ~is_defect_N).sum()), int((~is_defect_N).sum()))
        if escapes is None or overkill is None:
            raise ValueError(self.undefined)
        return Passage(tuple(sorted({float(t) for t in threshold_N})), escapes, overkill)


Rule = Callable[[Inspection], float]
"""How a threshold is chosen."""


def at_recall(recall: float) -> Rule:
    """The highest threshold that rejects at least this share of the defective images, 0 < recall <= 1."""
    if not 0 < recall <= 1:
        raise ValueError(f"recall {recall:g}: it must lie above 0 and not above 1")

    def rule(inspection: Inspection) -> float:
        curve = inspection.curve
        return float(curve.threshold_S[np.argmax(curve.escapes_S <= 1 - recall + 1e-9)])

    return rule


def cost_per_image_S(inspection: Inspection, costs: Costs) -> NDArray[np.float64]:
    """Mean cost of an image at every threshold of the curve, at the share of defective images of the set."""
    curve, prevalence = inspection.curve, inspection.prevalence
    cost_S = costs.escape * prevalence * curve.escapes_S + costs.overkill * (1 - prevalence) * curve.overkill_S
    return np.asarray(cost_S, np.float64)


def at_least_cost(costs: Costs) -> Rule:
    """The threshold of the least cost on the images at hand; of equal ones the one with fewer escapes."""

    def rule(inspection: Inspection) -> float:
        cost_S = cost_per_image_S(inspection, costs)
        return float(inspection.curve.threshold_S[np.flatnonzero(cost_S <= cost_S.min() + 1e-12 * costs.total)[-1]])

    return rule
