"""What a classifier did on a labelled set: recall, calibration, and the errors worth looking at.

Shapes: N images, C classes, B confidence bins.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics.bootstrap import (
    Figure,
    Floats,
    Groups,
    intervals,
    intervals_as_json,
    mean_of_defined,
    require_groups,
    share,
)
from pangu_cv.metrics.calibration import Reliability, reliability
from pangu_cv.metrics.interval import FloatArray, Interval
from pangu_cv.metrics.ranking import Ranking
from pangu_cv.metrics.unknown import UnknownOutcome

IntArray = NDArray[np.integer]
_SMALLEST_PROBABILITY = 1e-12  # keeps the log-likelihood of a probability rounded to 0 finite


@dataclass(frozen=True, eq=False)
class ClassificationOutcome:
    """Scores of N images against their truth.

    ``scores_NC`` are probabilities (each row sums to 1), ``truth_N`` indices into ``classes``. At least one image.
    Every figure is as if each image was answered; ``unknown`` says more where "unknown" is an answer too.
    """

    classes: tuple[str, ...]
    paths: tuple[str, ...]
    scores_NC: FloatArray
    truth_N: IntArray
    unknown: UnknownOutcome | None = None
    groups: Groups = ()

    def __post_init__(self) -> None:
        n, c = len(self.paths), len(self.classes)
        if n == 0 or c == 0:
            raise ValueError(f"an outcome needs an image and a class, not {n} images and {c} classes")
        require_groups(n, self.groups)
        if self.scores_NC.shape != (n, c) or self.truth_N.shape != (n,):
            raise ValueError(
                f"{n} images of {c} classes need scores of shape {(n, c)} and truth of shape {(n,)}, "
                f"not {self.scores_NC.shape} and {self.truth_N.shape}"
            )
        if self.truth_N.min() < 0 or self.truth_N.max() >= c:
            raise ValueError(f"truth must lie in 0..{c - 1}, not {self.truth_N.min()}..{self.truth_N.max()}")
        sums_N = self.scores_NC.sum(axis=1, dtype=np.float64)
        if not (np.abs(sums_N - 1) < 1e-2).all() or self.scores_NC.min() < 0:  # 1e-2: room for half precision
            raise ValueError("scores must be probabilities: non-negative, and every row summing to 1")

    @cached_property
    def predicted_N(self) -> NDArray[np.int64]:
        """Class of the highest score; the first of equals."""
        return np.asarray(self.scores_NC.argmax(axis=1), dtype=np.int64)

    @cached_property
    def confidence_N(self) -> NDArray[np.float64]:
        """Score of the predicted class."""
        return np.asarray(self.scores_NC.max(axis=1), dtype=np.float64)

    @cached_property
    def is_correct_N(self) -> NDArray[np.bool_]:
        """Whether prediction and truth agree."""
        return np.asarray(self.predicted_N == self.truth_N)

    @cached_property
    def confusion_CC(self) -> NDArray[np.int64]:
        """Counts, truth in rows and prediction in columns."""
        c = len(self.classes)
        return np.bincount(self.truth_N * c + self.predicted_N, minlength=c * c).reshape(c, c)

    @property
    def recall_per_class_C(self) -> NDArray[np.float64]:
        """Share of each class's images that were found; NaN for a class that does not occur."""
        return share(np.diag(self.confusion_CC), self.confusion_CC.sum(axis=1))

    @property
    def precision_per_class_C(self) -> NDArray[np.float64]:
        """Share of the images called a class that are of it; NaN for a class that was never said."""
        return share(np.diag(self.confusion_CC), self.confusion_CC.sum(axis=0))

    @property
    def f1_per_class_C(self) -> NDArray[np.float64]:
        """Harmonic mean of recall and precision; NaN for a class that neither occurs nor was said."""
        confusion_CC = self.confusion_CC
        return share(2 * np.diag(confusion_CC), confusion_CC.sum(axis=0) + confusion_CC.sum(axis=1))

    def ranking(self, class_index: int) -> Ranking:
        """One class against the rest, by its score."""
        return Ranking(self.scores_NC[:, class_index], np.asarray(self.truth_N == class_index))

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall over the classes that occur."""
        return float(np.nanmean(self.recall_per_class_C))

    @property
    def accuracy(self) -> float:
        """Share of images that were right."""
        return float(self.is_correct_N.mean())

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the classes that occur or were said."""
        return float(np.nanmean(self.f1_per_class_C))

    @property
    def figures(self) -> dict[str, Figure]:
        """The main figures for images that count several times, the first the one to compare models by."""
        c = len(self.classes)

        def hits_and_truth(counts_RN: Floats) -> tuple[Floats, Floats]:
            hits_RC = _counted(counts_RN * self.is_correct_N, self.truth_N, c)
            return hits_RC, _counted(counts_RN, self.truth_N, c)

        def balanced_accuracy(counts_RN: Floats) -> Floats:
            return mean_of_defined(share(*hits_and_truth(counts_RN)))

        def macro_f1(counts_RN: Floats) -> Floats:
            hits_RC, truth_RC = hits_and_truth(counts_RN)
            return mean_of_defined(share(2 * hits_RC, truth_RC + _counted(counts_RN, self.predicted_N, c)))

        def accuracy(counts_RN: Floats) -> Floats:
            return share(counts_RN @ self.is_correct_N, counts_RN.sum(1))

        return {"balanced_accuracy": balanced_accuracy, "accuracy": accuracy, "macro_f1": macro_f1}

    @cached_property
    def intervals(self) -> dict[str, Interval | None]:
        """``figures`` with 95 % by bootstrap over images, those of a group together."""
        return intervals(self.figures, len(self.paths), self.groups)

    @property
    def negative_log_likelihood(self) -> float:
        """Mean of -ln(score of the true class)."""
        true_N = self.scores_NC[np.arange(len(self.paths)), self.truth_N].astype(np.float64)
        return float(-np.log(np.maximum(true_N, _SMALLEST_PROBABILITY)).mean())

    def reliability(self, bins: int = 15) -> Reliability:
        """Confidence against accuracy in ``bins`` bins of equal width, closed on the right."""
        return reliability(self.confidence_N, self.is_correct_N, bins=bins)

    def expected_calibration_error(self, bins: int = 15) -> float:
        """Mean gap between confidence and accuracy, weighted by bin (Guo et al. 2017, arXiv:1706.04599)."""
        error = self.reliability(bins).expected_error
        assert error is not None  # there is an image
        return error

    def worst_errors(self, k: int) -> NDArray[np.int64]:
        """Indices of at most ``k`` wrong images, the most confident mistake first."""
        wrong_E = np.flatnonzero(~self.is_correct_N)
        return wrong_E[np.argsort(-self.confidence_N[wrong_E], kind="stable")][:k].astype(np.int64)

    def summary(self) -> dict[str, object]:
        """Every figure, ready for ``json.dumps``; None where it is undefined, such as the recall of an absent class."""
        rankings = [self.ranking(c) for c in range(len(self.classes))]
        return {
            "images": len(self.paths),
            "classes": list(self.classes),
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.macro_f1,
            "intervals": intervals_as_json(self.intervals),
            "expected_calibration_error": self.expected_calibration_error(),
            "negative_log_likelihood": self.negative_log_likelihood,
            "recall_per_class": _plain(self.recall_per_class_C),
            "precision_per_class": _plain(self.precision_per_class_C),
            "f1_per_class": _plain(self.f1_per_class_C),
            "average_precision_per_class": [ranking.average_precision for ranking in rankings],
            "auroc_per_class": [ranking.auroc for ranking in rankings],
            "confusion": self.confusion_CC.tolist(),
            **({} if self.unknown is None else {"unknown": self.unknown.summary()}),
        }


def _counted(counts_RN: Floats, class_N: IntArray, classes: int) -> Floats:
    """How often images of each class count, float[R,C]; without a matrix of N by C, which thousands of classes fill."""
    return np.array([np.bincount(class_N, weights=counts_N, minlength=classes) for counts_N in counts_RN])


def _plain(values_C: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values_C]
