"""What a segmenter did on a set with masks: overlap per class, over all pixels and image by image.

Shapes: N images, C classes of which the first is the background.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics.interval import Interval, mean_interval

Counts = NDArray[np.int64]
_RESAMPLES = 1000


def confusion(truth_HW: NDArray[np.uint8], found_HW: NDArray[np.uint8], *, classes: int) -> Counts:
    """Pixels int64[C,C], truth in rows; those whose truth is not below C (``IGNORE``) do not count."""
    counts = truth_HW < classes
    joint = truth_HW[counts].astype(np.int64) * classes + found_HW[counts]
    return np.bincount(joint, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True, eq=False)
class SegmentationOutcome:
    """Confusion matrices int64[N,C,C] of N images."""

    classes: tuple[str, ...]
    paths: tuple[str, ...]
    confusion_NCC: Counts

    def __post_init__(self) -> None:
        n, c = len(self.paths), len(self.classes)
        if n == 0 or c < 2:
            raise ValueError(f"an outcome needs an image and two classes, not {n} images and {c} classes")
        if self.confusion_NCC.shape != (n, c, c):
            raise ValueError(f"{n} images of {c} classes need a confusion of shape {(n, c, c)}")

    @property
    def iou_C(self) -> NDArray[np.float64]:
        """Intersection over union of each class over all pixels; NaN for one that is nowhere."""
        return _iou(self.confusion_NCC.sum(0))

    @property
    def f1_C(self) -> NDArray[np.float64]:
        """F1 (Dice) of each class over all pixels; NaN for one that is nowhere."""
        return _f1(self.confusion_NCC.sum(0))

    @property
    def mean_iou(self) -> float:
        """Mean over the classes, the background included, as the field counts it."""
        return float(np.nanmean(self.iou_C))

    @property
    def f1(self) -> float:
        """Mean F1 over the classes that are no background."""
        return _mean_f1(self.confusion_NCC.sum(0))

    @property
    def f1_per_image_N(self) -> NDArray[np.float64]:
        """The same image by image; 1 where nothing is and nothing was found."""
        each = np.array([_f1(one)[1:] for one in self.confusion_NCC])
        there = ~np.isnan(each)
        means = np.where(there, each, 0).sum(1) / np.maximum(there.sum(1), 1)
        return np.where(there.any(1), means, 1.0)

    @property
    def f1_interval(self) -> Interval:
        """95 % of ``f1`` by bootstrap over images."""
        random = np.random.default_rng(0)
        n = len(self.paths)
        draws = [_mean_f1(self.confusion_NCC[random.integers(n, size=n)].sum(0)) for _ in range(_RESAMPLES)]
        low, high = np.nanquantile(draws, [0.025, 0.975]) if n > 1 else (None, None)
        return Interval(self.f1, low, high, n)

    def summary(self) -> dict[str, object]:
        """Every figure, ready for ``json.dumps``; a class that is nowhere has None."""
        total = self.confusion_NCC.sum(0)
        return {
            "images": len(self.paths),
            "classes": list(self.classes),
            "f1": self.f1,
            "f1_interval": self.f1_interval.as_json(),
            "f1_per_image": mean_interval(self.f1_per_image_N).as_json(),
            "mean_iou": self.mean_iou,
            "iou_per_class": _plain(self.iou_C),
            "f1_per_class": _plain(self.f1_C),
            "precision_per_class": _plain(_share(np.diag(total), total.sum(0))),
            "recall_per_class": _plain(_share(np.diag(total), total.sum(1))),
            "pixel_confusion": total.tolist(),
        }


def _share(part: Counts, whole: Counts) -> NDArray[np.float64]:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _iou(confusion_CC: Counts) -> NDArray[np.float64]:
    hits = np.diag(confusion_CC)
    return _share(hits, confusion_CC.sum(0) + confusion_CC.sum(1) - hits)


def _f1(confusion_CC: Counts) -> NDArray[np.float64]:
    return _share(2 * np.diag(confusion_CC), confusion_CC.sum(0) + confusion_CC.sum(1))


def _mean_f1(confusion_CC: Counts) -> float:
    found = _f1(confusion_CC)[1:]
    return float(np.nanmean(found)) if not np.isnan(found).all() else 1.0


def _plain(values_C: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values_C]
