"""What a classifier that may answer "unknown" did: how often it answered, how often rightly, and what it turned away.

Shapes: N images, those of classes that the model does not know included.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics.interval import FloatArray, Interval, proportion_interval

UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class UnknownOutcome:
    """Answers against truth, both as class numbers and -1 for unknown; ``confidence_N`` is the best class's score.

    ``stated_rate`` is the share of images of known classes that the threshold was set for. A figure over no image is
    None.
    """

    paths: tuple[str, ...]
    confidence_N: FloatArray
    answer_N: NDArray[np.int64]
    truth_N: NDArray[np.int64]
    threshold: float
    stated_rate: float

    def __post_init__(self) -> None:
        n = len(self.paths)
        for name in ("confidence_N", "answer_N", "truth_N"):
            if getattr(self, name).shape != (n,):
                raise ValueError(f"{n} images need {name} of shape {(n,)}, not {getattr(self, name).shape}")

    @property
    def is_known_N(self) -> NDArray[np.bool_]:
        """Whether an image is of a class that the model knows."""
        return np.asarray(self.truth_N != UNKNOWN)

    @property
    def is_answered_N(self) -> NDArray[np.bool_]:
        """Whether an image got a class for an answer."""
        return np.asarray(self.answer_N != UNKNOWN)

    @property
    def unknown_rate(self) -> Interval | None:
        """Share of images of known classes that were answered unknown, with its 95 % Wilson interval."""
        return self._share(~self.is_answered_N, among_N=self.is_known_N)

    @property
    def accuracy_answered(self) -> Interval | None:
        """Share that was right of the answered images of known classes."""
        return self._share(self.answer_N == self.truth_N, among_N=self.is_known_N & self.is_answered_N)

    @property
    def recognised(self) -> Interval | None:
        """Share of images of classes that the model does not know that were answered unknown."""
        return self._share(~self.is_answered_N, among_N=~self.is_known_N)

    @property
    def auroc(self) -> float | None:
        """Chance that an image of a known class is surer than one of another class."""
        if not self.is_known_N.any() or self.is_known_N.all():
            return None
        from sklearn.metrics import roc_auc_score

        return float(roc_auc_score(self.is_known_N, self.confidence_N))

    def _share(self, hit_N: NDArray[np.bool_], *, among_N: NDArray[np.bool_]) -> Interval | None:
        return proportion_interval(int((hit_N & among_N).sum()), int(among_N.sum()))

    def summary(self) -> dict[str, object]:
        """Every figure, ready for ``json.dumps``; coverage is the answered share of images of known classes."""
        rate, right, recognised = self.unknown_rate, self.accuracy_answered, self.recognised
        return {
            "threshold": self.threshold,
            "stated_rate": self.stated_rate,
            "unknown_rate": rate.as_json() if rate else None,
            "coverage": 1 - rate.mean if rate else None,
            "accuracy_answered": right.as_json() if right else None,
            "should_be_unknown": int((~self.is_known_N).sum()),
            "recognised": recognised.as_json() if recognised else None,
            "auroc": self.auroc,
        }
