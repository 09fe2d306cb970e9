"""What a classifier did on a labelled set: recall, calibration, and the errors worth looking at.

Shapes: N images, C classes, B confidence bins.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics.interval import FloatArray
from pangu_cv.metrics.unknown import UnknownOutcome

IntArray = NDArray[np.integer]
_SMALLEST_PROBABILITY = 1e-12  # keeps the log-likelihood of a probability rounded to 0 finite


@dataclass(frozen=True, eq=False)
class Reliability:
    """Mean confidence, accuracy (both NaN in an empty bin) and count per bin of equal width over (0, 1]."""

    confidence_B: NDArray[np.float64]
    accuracy_B: NDArray[np.float64]
    count_B: NDArray[np.int64]


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

    def __post_init__(self) -> None:
        n, c = len(self.paths), len(self.classes)
        if n == 0 or c == 0:
            raise ValueError(f"an outcome needs an image and a class, not {n} images and {c} classes")
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

    @property
    def predicted_N(self) -> NDArray[np.int64]:
        """Class of the highest score; the first of equals."""
        return np.asarray(self.scores_NC.argmax(axis=1), dtype=np.int64)

    @property
    def confidence_N(self) -> NDArray[np.float64]:
        """Score of the predicted class."""
        return np.asarray(self.scores_NC.max(axis=1), dtype=np.float64)

    @property
    def is_correct_N(self) -> NDArray[np.bool_]:
        """Whether prediction and truth agree."""
        return np.asarray(self.predicted_N == self.truth_N)

    @property
    def confusion_CC(self) -> NDArray[np.int64]:
        """Counts, truth in rows and prediction in columns."""
        c = len(self.classes)
        return np.bincount(self.truth_N * c + self.predicted_N, minlength=c * c).reshape(c, c)

    @property
    def recall_per_class_C(self) -> NDArray[np.float64]:
        """Share of each class's images that were found; NaN for a class that does not occur."""
        confusion_CC = self.confusion_CC
        count_C = confusion_CC.sum(axis=1)
        return np.where(count_C > 0, np.diag(confusion_CC) / np.maximum(count_C, 1), np.nan)

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall over the classes that occur."""
        return float(np.nanmean(self.recall_per_class_C))

    @property
    def accuracy(self) -> float:
        """Share of images that were right."""
        return float(self.is_correct_N.mean())

    @property
    def negative_log_likelihood(self) -> float:
        """Mean of -ln(score of the true class)."""
        true_N = self.scores_NC[np.arange(len(self.paths)), self.truth_N].astype(np.float64)
        return float(-np.log(np.maximum(true_N, _SMALLEST_PROBABILITY)).mean())

    def reliability(self, bins: int = 15) -> Reliability:
        """Confidence against accuracy in ``bins`` bins of equal width, closed on the right."""
        bin_N = np.digitize(self.confidence_N, np.linspace(0, 1, bins + 1)[1:-1], right=True)
        count_B = np.bincount(bin_N, minlength=bins)
        divisor_B = np.where(count_B > 0, count_B, np.nan)
        return Reliability(
            confidence_B=np.bincount(bin_N, weights=self.confidence_N, minlength=bins) / divisor_B,
            accuracy_B=np.bincount(bin_N, weights=self.is_correct_N, minlength=bins) / divisor_B,
            count_B=count_B,
        )

    def expected_calibration_error(self, bins: int = 15) -> float:
        """Mean gap between confidence and accuracy, weighted by bin (Guo et al. 2017, arXiv:1706.04599)."""
        bin_stats = self.reliability(bins)
        gap_B = np.nan_to_num(np.abs(bin_stats.confidence_B - bin_stats.accuracy_B))
        return float((gap_B * bin_stats.count_B).sum() / len(self.paths))

    def worst_errors(self, k: int) -> NDArray[np.int64]:
        """Indices of at most ``k`` wrong images, the most confident mistake first."""
        wrong_E = np.flatnonzero(~self.is_correct_N)
        return wrong_E[np.argsort(-self.confidence_N[wrong_E], kind="stable")][:k].astype(np.int64)

    def summary(self) -> dict[str, object]:
        """Every figure, ready for ``json.dumps``; a class that does not occur has the recall None."""
        recall_C = self.recall_per_class_C
        return {
            "images": len(self.paths),
            "classes": list(self.classes),
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "expected_calibration_error": self.expected_calibration_error(),
            "negative_log_likelihood": self.negative_log_likelihood,
            "recall_per_class": [None if np.isnan(r) else float(r) for r in recall_C],
            "confusion": self.confusion_CC.tolist(),
            **({} if self.unknown is None else {"unknown": self.unknown.summary()}),
        }
