"""What a tagger did on images that show any number of classes: ranking per class, and what its threshold makes of it.

Shapes: N images, C classes, R resamples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics.interval import FloatArray, Interval

Flags = NDArray[np.bool_]
_RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class MultilabelOutcome:
    """Scores and decisions of N images against their truth; ``is_present_NC`` is what the graph decided.

    A class that occurs nowhere has no figures (NaN in arrays) and counts in no mean. At least one image and class.
    """

    classes: tuple[str, ...]
    paths: tuple[str, ...]
    scores_NC: FloatArray
    is_present_NC: Flags
    truth_NC: Flags
    threshold: float

    def __post_init__(self) -> None:
        shape = (len(self.paths), len(self.classes))
        if 0 in shape:
            raise ValueError(f"an outcome needs an image and a class, not {shape[0]} images and {shape[1]} classes")
        for name in ("scores_NC", "is_present_NC", "truth_NC"):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must have the shape {shape}, not {getattr(self, name).shape}")
        if self.truth_NC.dtype != np.bool_ or self.is_present_NC.dtype != np.bool_:
            raise ValueError("truth_NC and is_present_NC must be boolean: ~ means something else on integers")

    @property
    def hits_N3(self) -> NDArray[np.int64]:
        """Per image: classes found that are there, classes that are there, classes found."""
        both = self.is_present_NC & self.truth_NC
        counts = [both.sum(1), self.truth_NC.sum(1), self.is_present_NC.sum(1)]
        return np.asarray(np.stack(counts, 1), np.int64)

    @property
    def ap_C(self) -> NDArray[np.float64]:
        """Average precision of each class."""
        return np.asarray(self._resampled_ap(np.ones((1, len(self.paths))))[0], np.float64)

    @property
    def mean_ap(self) -> float | None:
        """Mean average precision over the classes that occur; None where none does."""
        return _mean(self.ap_C)

    @property
    def chance_ap(self) -> float | None:
        """What the mean average precision tends to without any skill: the mean share of images that show a class."""
        share_C = self.truth_NC.mean(0)
        return _mean(np.where(share_C > 0, share_C, np.nan))

    def mean_ap_interval(self, *, seed: int = 0) -> Interval | None:
        """Mean average precision with its 95 % percentile-bootstrap interval (Efron 1979) over images."""
        mean, n = self.mean_ap, len(self.paths)
        if mean is None:
            return None
        if n == 1:
            return Interval(mean, None, None, 1)
        weights_RN = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
        ap_RC = self._resampled_ap(weights_RN)
        means = [value for row in ap_RC if (value := _mean(row)) is not None]
        low, high = np.quantile(means, [0.025, 0.975])
        return Interval(mean, float(low), float(high), n)

    def _resampled_ap(self, weights_RN: NDArray[np.generic]) -> NDArray[np.float64]:
        columns = zip(self.scores_NC.T, self.truth_NC.T, strict=True)
        return np.stack([average_precision(s_N, t_N, weights_RN) for s_N, t_N in columns], 1)

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
        return float((self.is_present_NC == self.truth_NC).all(1).mean())

    def _counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        return (self.is_present_NC & self.truth_NC).sum(0), self.truth_NC.sum(0), self.is_present_NC.sum(0)

    def per_class(self) -> list[dict[str, object]]:
        """Figures of each class, ready for ``json.dumps``."""
        both, there, found = self._counts()
        return [
            {
                "class": name,
                "images": int(there[c]),
                "ap": _or_none(self.ap_C[c]),
                "precision": float(both[c] / found[c]) if found[c] else None,
                "recall": float(both[c] / there[c]) if there[c] else None,
                "f1": _or_none(self.f1_C[c]),
            }
            for c, name in enumerate(self.classes)
        ]

    def summary(self) -> dict[str, object]:
        """Every figure, ready for ``json.dumps``."""
        interval = self.mean_ap_interval()
        return {
            "images": len(self.paths),
            "classes": list(self.classes),
            "threshold": self.threshold,
            "mean_ap": self.mean_ap,
            "mean_ap_interval": interval.as_json() if interval else None,
            "chance_ap": self.chance_ap,
            "micro_f1": self.micro_f1,
            "macro_f1": self.macro_f1,
            "exact_match": self.exact_match,
            "per_class": self.per_class(),
        }


def average_precision(scores_N: FloatArray, truth_N: Flags, weights_RN: NDArray[np.generic]) -> NDArray[np.float64]:
    """Area under precision over recall by steps, float64[R], with images counted ``weights`` times; NaN of no positive.

    Images of equal score come at once, so that their order does not matter.
    """
    order = np.argsort(-scores_N, kind="stable")
    ranked, weights = scores_N[order], np.asarray(weights_RN, np.float64)[:, order]
    positive = weights * truth_N[order]
    last_of_equals = np.searchsorted(-ranked, -ranked, side="right") - 1
    above, all_above = positive.cumsum(1)[:, last_of_equals], weights.cumsum(1)[:, last_of_equals]
    precision = above / np.maximum(all_above, 1e-12)
    total = positive.sum(1)
    return np.where(total > 0, (positive * precision).sum(1) / np.maximum(total, 1e-12), np.nan)


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
