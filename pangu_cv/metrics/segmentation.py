"""What a segmenter did on a set with masks: overlap per class, over all pixels and image by image.

Shapes: N images, C classes of which the first is the background.
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
from pangu_cv.metrics.interval import FloatArray, Interval, mean_interval
from pangu_cv.metrics.pixel_confidence import PixelConfidence

Counts = NDArray[np.int64]


def confusion(truth_HW: NDArray[np.uint8], found_HW: NDArray[np.uint8], *, classes: int) -> Counts:
    """Pixels int64[C,C], truth in rows; those whose truth is not below C (``IGNORE``) do not count."""
    counts = truth_HW < classes
    joint = truth_HW[counts].astype(np.int64) * classes + found_HW[counts]
    return np.bincount(joint, minlength=classes * classes).reshape(classes, classes)


def pixels_of_classes(confusion_CC: Counts) -> NDArray[np.int32]:
    """Of each class the pixels hit, those true and those found, int32[3,C]: all that figures need of one image.

    Of matrices [N,C,C] it is [N,3,C].
    """
    hits = np.diagonal(confusion_CC, axis1=-2, axis2=-1)
    return np.stack([hits, confusion_CC.sum(-1), confusion_CC.sum(-2)], axis=-2).astype(np.int32)


@dataclass(frozen=True, eq=False)
class SegmentationOutcome:
    """The confusion matrix int64[C,C] of N images together, and ``pixels_of_classes`` of each, int32[N,3,C].

    ``defect_confidence_N`` is the highest confidence of a pixel that counts and was decided not to be background, 0
    where there is none; ``pixels`` is how sure it was of them all. None where nobody asked for it.
    """

    classes: tuple[str, ...]
    paths: tuple[str, ...]
    confusion_CC: Counts
    pixels_N3C: NDArray[np.int32]
    defect_confidence_N: FloatArray | None = None
    pixels: PixelConfidence | None = None
    groups: Groups = ()

    def __post_init__(self) -> None:
        n, c = len(self.paths), len(self.classes)
        if n == 0 or c < 2:
            raise ValueError(f"an outcome needs an image and two classes, not {n} images and {c} classes")
        require_groups(n, self.groups)
        if self.confusion_CC.shape != (c, c) or self.pixels_N3C.shape != (n, 3, c):
            raise ValueError(f"{n} images of {c} classes need a confusion {(c, c)} and pixels {(n, 3, c)}")

    @property
    def iou_C(self) -> NDArray[np.float64]:
        """Intersection over union of each class over all pixels; NaN for one that is nowhere."""
        return _iou(self.confusion_CC)

    @property
    def f1_C(self) -> NDArray[np.float64]:
        """F1 (Dice) of each class over all pixels; NaN for one that is nowhere."""
        return _f1(self.confusion_CC)

    @property
    def mean_iou(self) -> float:
        """Mean over the classes, the background included, as the field counts it."""
        return float(np.nanmean(self.iou_C))

    @property
    def f1(self) -> float:
        """Mean F1 over the classes that are no background."""
        return _mean_f1(self.confusion_CC)

    @cached_property
    def f1_per_image_N(self) -> NDArray[np.float64]:
        """The same image by image; 1 where nothing is and nothing was found."""
        hits_NC, truth_NC, found_NC = self.pixels_N3C[:, :, 1:].transpose(1, 0, 2)
        each = share(2.0 * hits_NC, truth_NC.astype(np.float64) + found_NC)
        there = ~np.isnan(each)
        means = np.where(there, each, 0).sum(1) / np.maximum(there.sum(1), 1)
        return np.where(there.any(1), means, 1.0)

    @property
    def is_defect_N(self) -> NDArray[np.bool_]:
        """Whether the mask holds any pixel that is not background; those that do not count are left out."""
        return np.asarray(self.pixels_N3C[:, 1, 1:].any(1))

    @property
    def figures(self) -> dict[str, Figure]:
        """The main figures for images that count several times, the first the one to compare models by."""
        hits_NC, truth_NC, found_NC = self.pixels_N3C.transpose(1, 0, 2).astype(np.float64)
        sizes_NC = truth_NC + found_NC

        def f1(counts_RN: Floats) -> Floats:
            mean_R = mean_of_defined(share(2 * counts_RN @ hits_NC[:, 1:], counts_RN @ sizes_NC[:, 1:]))
            return np.where(np.isnan(mean_R), 1.0, mean_R)  # nothing is there and nothing was found

        def mean_iou(counts_RN: Floats) -> Floats:
            return mean_of_defined(share(counts_RN @ hits_NC, counts_RN @ (sizes_NC - hits_NC)))

        return {"f1": f1, "mean_iou": mean_iou}

    def average_precision(self, class_index: int) -> float | None:
        """Of a class's pixels, see ``PixelConfidence``; None for the background and where nobody asked for it."""
        return self.pixels.average_precision(class_index) if self.pixels and class_index else None

    @cached_property
    def intervals(self) -> dict[str, Interval | None]:
        """``figures`` with 95 % by bootstrap over images, those of a group together."""
        return intervals(self.figures, len(self.paths), self.groups)

    @property
    def f1_interval(self) -> Interval:
        """95 % of ``f1`` by bootstrap over images, those of a group together."""
        found = self.intervals["f1"]
        assert found is not None  # it is defined for every set
        return found

    def summary(self) -> dict[str, object]:
        """Every figure, ready for ``json.dumps``; a class that is nowhere has None."""
        total = self.confusion_CC
        return {
            "images": len(self.paths),
            "classes": list(self.classes),
            "f1": self.f1,
            "f1_interval": self.f1_interval.as_json(),
            "f1_per_image": mean_interval(self.f1_per_image_N).as_json(),
            "mean_iou": self.mean_iou,
            "intervals": intervals_as_json(self.intervals),
            "iou_per_class": _plain(self.iou_C),
            "f1_per_class": _plain(self.f1_C),
            "precision_per_class": _plain(share(np.diag(total), total.sum(0))),
            "recall_per_class": _plain(share(np.diag(total), total.sum(1))),
            "pixel_confusion": total.tolist(),
            "average_precision_per_class": [self.average_precision(c) for c in range(len(self.classes))],
            "expected_calibration_error": self.pixels.reliability().expected_error if self.pixels else None,
        }


def _iou(confusion_CC: Counts) -> NDArray[np.float64]:
    hits = np.diag(confusion_CC)
    return share(hits, confusion_CC.sum(0) + confusion_CC.sum(1) - hits)


def _f1(confusion_CC: Counts) -> NDArray[np.float64]:
    return share(2 * np.diag(confusion_CC), confusion_CC.sum(0) + confusion_CC.sum(1))


def _mean_f1(confusion_CC: Counts) -> float:
    found = _f1(confusion_CC)[1:]
    return float(np.nanmean(found)) if not np.isnan(found).all() else 1.0


def _plain(values_C: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values_C]
