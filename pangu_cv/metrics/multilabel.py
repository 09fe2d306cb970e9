"""What a tagger did on images that show any number of classes: ranking per class, and what its threshold makes of it.

Shapes: N images, C classes, R resamples.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics import calibration
from pangu_cv.metrics.bootstrap import (
    RESAMPLES,
    Figure,
    Floats,
    Groups,
    intervals,
    intervals_as_json,
    mean_of_defined,
    require_groups,
    share,
)
from pangu_cv.metrics.interval import FloatArray, Interval
from pangu_cv.metrics.ranking import Ranking

Flags = NDArray[np.bool_]
_MOST_SUMMED = 1 << 32  # images by classes by resamples: minutes
_FEWEST_RESAMPLES = 100


@dataclass(frozen=True, eq=False)
class MultilabelOutcome:
    """Scores and decisions of N images against their truth; ``is_present_NC`` is what the graph decided.

    A class without a figure (NaN in arrays) counts in no mean. At least one image and class.
    """

    classes: tuple[str, ...]
    paths: tuple[str, ...]
    scores_NC: FloatArray
    is_present_NC: Flags
    truth_NC: Flags
    threshold: float
    groups: Groups = ()

    def __post_init__(self) -> None:
        shape = (len(self.paths), len(self.classes))
        if 0 in shape:
            raise ValueError(f"an outcome needs an image and a class, not {shape[0]} images and {shape[1]} classes")
        require_groups(shape[0], self.groups)
        for name in ("scores_NC", "is_present_NC", "truth_NC"):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must have the shape {shape}, not {getattr(self, name).shape}")
        if self.truth_NC.dtype != np.bool_ or self.is_present_NC.dtype != np.bool_:
            raise ValueError("truth_NC and is_present_NC must be boolean: ~ means something else on integers")

    @cached_property
    def hits_N3(self) -> NDArray[np.int64]:
        """Per image: classes found that are there, classes that are there, classes found."""
        both = self.is_present_NC & self.truth_NC
        counts = [both.sum(1), self.truth_NC.sum(1), self.is_present_NC.sum(1)]
        return np.asarray(np.stack(counts, 1), np.int64)

    @cached_property
    def _rankings(self) -> tuple[Ranking, ...]:
        return tuple(Ranking(s_N, t_N) for s_N, t_N in zip(self.scores_NC.T, self.truth_NC.T, strict=True))

    def ranking(self, class_index: int) -> Ranking:
        """The images by the score of one class."""
        return self._rankings[class_index]

    def reliability(self, bins: int = 15) -> calibration.Reliability:
        """Score of a class against the share of images that show it, all classes together."""
        return calibration.reliability(self.scores_NC.ravel(), self.truth_NC.ravel(), bins=bins)

    @cached_property
    def ap_C(self) -> NDArray[np.float64]:
        """Average precision of each class; NaN for one on no image or on all: nothing to rank."""
        return np.asarray(self._ap_RC(np.ones((1, len(self.paths))))[0], np.float64)

    @property
    def mean_ap(self) -> float | None:
        """Mean average precision over the classes that can be ranked; None where none can."""
        return _mean(self.ap_C)

    @property
    def chance_ap(self) -> float | None:
        """What the mean average precision tends to without any skill: the mean share of images that show a class."""
        return _mean(np.where(np.isnan(self.ap_C), np.nan, self.truth_NC.mean(0)))

    @cached_property
    def is_correct_N(self) -> Flags:
        """Images whose every class was decided rightly."""
        return np.asarray((self.is_present_NC == self.truth_NC).all(1))

    @property
    def figures(self) -> dict[str, Figure]:
        """Figures for images that count several times, the first the one to compare models by."""
        return {
            "mean_ap": lambda counts_RN: mean_of_defined(self._ap_RC(counts_RN)),
            "micro_f1": self._micro_f1_R,
            "exact_match": lambda counts_RN: share(counts_RN @ self.is_correct_N, counts_RN.sum(1)),
        }

    @cached_property
    def intervals(self) -> dict[str, Interval | None]:
        """95 % of ``figures`` by bootstrap over images, those of a group together, ``resamples_of`` so many."""
        return intervals(self.figures, len(self.paths), self.groups, resamples=resamples_of(*self.truth_NC.shape))

    def _ap_RC(self, counts_RN: Floats) -> Floats:
        return np.stack([ranking.average_precision_R(counts_RN) for ranking in self._rankings], 1)

    def _micro_f1_R(self, counts_RN: Floats) -> Floats:
        both, there, found = (counts_RN @ self.hits_N3).T
        return share(2 * both, there + found)

    @property
    def f1_C(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall of each class, at the threshold."""
        both, there, found = self._counts()
        return np.where(there > 0, 2 * both / np.maximum(there + found, 1), np.nan)

    @property
    def macro_f1(self) -> float | None:
        """Mean F1 over the classes that occur."""
        return _mean(self.f1_C)

    @property
    def micro_f1(self) -> float | None:
        """F1 of all labels together; None where nothing is there and nothing was found."""
        both, there, found = (int(count.sum()) for count in self._counts())
        return 2 * both / (there + found) if there + found else None

    @property
    def exact_match(self) -> float:
        """Share of images whose every class was decided rightly."""
        return float(self.is_correct_N.mean())

    def _counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        return (self.is_present_NC & self.truth_NC).sum(0), self.truth_NC.sum(0), self.is_present_NC.sum(0)

    def per_class(self) -> list[dict[str, object]]:
        """Figures of each class, ready for ``json.dumps``."""
        both, there, found = self._counts()
        ap_C, f1_C = self.ap_C, self.f1_C
        return [
            {
                "class": name,
                "images": int(there[c]),
                "ap": _or_none(ap_C[c]),
                "precision": float(both[c] / found[c]) if found[c] else None,
                "recall": float(both[c] / there[c]) if there[c] else None,
                "f1": _or_none(f1_C[c]),
            }
            for c, name in enumerate(self.classes)
        ]

    def summary(self) -> dict[str, object]:
        """Every figure, ready for ``json.dumps``."""
        return {
            "images": len(self.paths),
            "classes": list(self.classes),
            "threshold": self.threshold,
            "mean_ap": self.mean_ap,
            "chance_ap": self.chance_ap,
            "micro_f1": self.micro_f1,
            "macro_f1": self.macro_f1,
            "exact_match": self.exact_match,
            "expected_calibration_error": self.reliability().expected_error,
            "intervals": intervals_as_json(self.intervals),
            "per_class": self.per_class(),
        }


def resamples_of(images: int, classes: int) -> int:
    """Resamples that an interval rests on: 1000 up to four million images by classes, then fewer, at least 100.

    Every resample ranks each class's images anew. Of so many images the ends of an interval hardly move with them.
    """
    return min(RESAMPLES, max(_FEWEST_RESAMPLES, _MOST_SUMMED // (images * classes)))


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
