"""What a detector did on a set with boxes: average precision as COCO defines it, and hits at the model's threshold.

pycocotools matches the boxes once; intervals draw the images from those matches (``metrics.box_matches``). All found
boxes count: COCO leaves out those beyond the best 100 of a class in an image (``COCO_MOST``), so that up to there the
figures are COCO's own.

Shapes: N images, K found boxes of an image, G true ones, C classes.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

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
from pangu_cv.metrics.box_matches import RECALLS, ClassMatches
from pangu_cv.metrics.calibration import Reliability, reliability
from pangu_cv.metrics.interval import Interval

COCO_MOST = 100
"""Boxes of one class in one image that COCO counts."""
_HIT_IOU = 0.5
_LEVELS = 10  # of IoU: 0.5 to 0.95
_LEAST_SCORE = 0.05  # boxes below are no claim: they would drown all others in a picture of what scores are worth


@dataclass(frozen=True, eq=False)
class Found:
    """Boxes of one image: float[K,4] (xyxy in pixels), classes int[K], scores float[K] (ones where they are true)."""

    boxes_K4: NDArray[np.floating[Any]]
    label_K: NDArray[np.integer[Any]]
    score_K: NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class DetectionOutcome:
    """Found and true boxes of N images; those that score at least ``threshold`` count as found at the line."""

    classes: tuple[str, ...]
    paths: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    """Width and height of each image in pixels."""
    found: tuple[Found, ...]
    truth: tuple[Found, ...]
    threshold: float
    groups: Groups = ()

    def __post_init__(self) -> None:
        n = len(self.paths)
        if n == 0 or not self.classes or not n == len(self.found) == len(self.truth) == len(self.sizes):
            raise ValueError(f"an outcome needs a class, and found and true boxes for each of its {n} images")
        require_groups(n, self.groups)

    @property
    def precision_TRC(self) -> NDArray[np.float64]:
        """Precision by IoU (0.5 to 0.95), recall (0 to 1 in 101 steps) and class; -1 for a class that is nowhere."""
        return self._coco_evaluation[0]

    @property
    def matches_C(self) -> tuple[ClassMatches, ...]:
        """What the found boxes of each class hit, image by image."""
        return self._coco_evaluation[1]

    @cached_property
    def _coco_evaluation(self) -> tuple[NDArray[np.float64], tuple[ClassMatches, ...]]:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            truth = COCO()
            truth.dataset = self._coco()
            truth.createIndex()
            rows = self._rows()
            if not rows:
                nothing = np.where(self._counts[None, None] > 0, 0.0, -1.0) * np.ones((_LEVELS, 101, 1))
                images = enumerate(self._images_of_classes())
                return nothing, tuple(self._class_matches(c, image_M, ()) for c, image_M in images)
            evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
            evaluation.params.areaRng = evaluation.params.areaRng[:1]  # boxes of all sizes; the others are not told
            evaluation.params.maxDets[-1] = max(COCO_MOST, self.most_found)
            of_class = [self._evaluated(evaluation, c, images) for c, images in enumerate(self._images_of_classes())]
        return np.stack([precision_TR for precision_TR, _ in of_class], 2), tuple(matches for _, matches in of_class)

    def _images_of_classes(self) -> list[NDArray[np.int64]]:
        """Places of the images that have a box of each class, a true or a found one."""
        found_or_true = [(n, one.label_K) for side in (self.found, self.truth) for n, one in enumerate(side)]
        label_B = np.concatenate([label_K for _, label_K in found_or_true]).astype(np.int64)
        image_B = np.repeat([n for n, _ in found_or_true], [len(label_K) for _, label_K in found_or_true])
        pairs_P2 = np.unique(np.stack([label_B, image_B], 1), axis=0)
        return np.split(pairs_P2[:, 1], np.searchsorted(pairs_P2[:, 0], range(1, len(self.classes))))

    def _evaluated(
        self, evaluation: Any, label: int, image_M: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], ClassMatches]:
        """Precision float[T,R] and matches of a class on the images that have a box of it.

        The others cannot change either, and pycocotools would keep a cell for each of them.
        """
        if not len(image_M):
            return np.full((_LEVELS, len(RECALLS)), -1.0), self._class_matches(label, image_M, ())
        evaluation.params.imgIds, evaluation.params.catIds = (image_M + 1).tolist(), [label + 1]
        evaluation.evaluate()
        evaluation.accumulate()
        precision_TR = np.asarray(evaluation.eval["precision"][:, :, 0, 0, -1], np.float64)
        return precision_TR, self._class_matches(label, image_M, evaluation.evalImgs)

    def _class_matches(self, label: int, image_M: NDArray[np.int64], there: Sequence[dict[str, Any]]) -> ClassMatches:
        """From what pycocotools found for each image: ``image_id``, ``dtScores`` and ``dtMatches``, 0 for no hit."""
        image_D = np.repeat([one["image_id"] - 1 for one in there], [len(one["dtScores"]) for one in there]).astype(int)
        score_D = np.concatenate([np.zeros(0), *(one["dtScores"] for one in there)])
        is_hit_TD = np.concatenate([np.zeros((_LEVELS, 0)), *(one["dtMatches"] for one in there)], axis=1) > 0
        order_D = np.argsort(-score_D, kind="stable")
        truth_M = np.array([(self.truth[n].label_K == label).sum() for n in image_M], np.int64)
        place_D = np.searchsorted(image_M, image_D[order_D])
        return ClassMatches(image_M, place_D, score_D[order_D], is_hit_TD[:, order_D], truth_M)

    @property
    def most_found(self) -> int:
        """Most boxes of one class that were found in one image."""
        return max(int(np.bincount(one.label_K.astype(np.int64)).max(initial=0)) for one in self.found)

    @property
    def _counts(self) -> NDArray[np.int64]:
        labels = np.concatenate([one.label_K for one in self.truth]).astype(np.int64)
        return np.bincount(labels, minlength=len(self.classes))

    def _coco(self) -> dict[str, Any]:
        images = [{"id": n + 1, "width": w, "height": h} for n, (w, h) in enumerate(self.sizes)]
        annotations = [
            {"id": 0, "image_id": n + 1, "category_id": int(label) + 1, "iscrowd": 0, **_box(box)}
            for n, one in enumerate(self.truth)
            for box, label in zip(one.boxes_K4, one.label_K, strict=True)
        ]
        for number, annotation in enumerate(annotations, start=1):
            annotation["id"] = number
        categories = [{"id": n + 1, "name": name} for n, name in enumerate(self.classes)]
        return {"info": {}, "images": images, "annotations": annotations, "categories": categories}

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {"image_id": n + 1, "category_id": int(label) + 1, "score": float(score), "bbox": _box(box)["bbox"]}
            for n, one in enumerate(self.found)
            for box, label, score in zip(one.boxes_K4, one.label_K, one.score_K, strict=True)
        ]

    def ap_C(self, iou: float | None = None) -> NDArray[np.float64]:
        """Average precision of each class at one IoU (0.5, 0.55, … 0.95) or their mean; NaN for one that is nowhere."""
        chosen = self.precision_TRC if iou is None else self.precision_TRC[[round((iou - 0.5) / 0.05)]]
        return np.where(chosen[0, 0] < 0, np.nan, chosen.mean((0, 1)))

    @property
    def ap(self) -> float | None:
        """Mean over classes and IoU 0.5 to 0.95; None where there is no true box."""
        return _mean(self.ap_C())

    @property
    def ap50(self) -> float | None:
        """Mean over classes at IoU 0.5; None where there is no true box."""
        return _mean(self.ap_C(0.5))

    @cached_property
    def hits_N3(self) -> NDArray[np.int64]:
        """Hits, true boxes and found boxes per image, at the threshold and IoU 0.5, class by class."""
        rows = []
        for found, truth in zip(self.found, self.truth, strict=True):
            counts = found.score_K >= self.threshold
            rows.append((int(matched(found, truth, counts).sum()), len(truth.label_K), int(counts.sum())))
        return np.array(rows, np.int64)

    @property
    def f1_per_image_N(self) -> NDArray[np.float64]:
        """F1 at the threshold image by image; 1 where nothing is and nothing was found."""
        return _f1(*self.hits_N3.T.astype(np.float64))

    @property
    def recall(self) -> float | None:
        """Share of true boxes that were found, at the threshold."""
        return _share(self.hits_N3[:, 0].sum(), self.hits_N3[:, 1].sum())

    @property
    def precision(self) -> float | None:
        """Share of found boxes that are true, at the threshold."""
        return _share(self.hits_N3[:, 0].sum(), self.hits_N3[:, 2].sum())

    @property
    def figures(self) -> dict[str, Figure]:
        """The main figures for images that count several times, the first the one to compare models by."""
        hits_N, truth_N, found_N = self.hits_N3.T

        def ap(levels: slice) -> Figure:
            return lambda counts_RN: mean_of_defined(
                np.stack([one.ap_R(counts_RN, levels) for one in self.matches_C], axis=1)
            )

        def f1(counts_RN: Floats) -> Floats:
            return _f1(counts_RN @ hits_N, counts_RN @ truth_N, counts_RN @ found_N)

        return {
            "ap50": ap(slice(1)),
            "ap": ap(slice(None)),
            "f1": f1,
            "recall": lambda counts_RN: share(counts_RN @ hits_N, counts_RN @ truth_N),
            "precision": lambda counts_RN: share(counts_RN @ hits_N, counts_RN @ found_N),
        }

    @cached_property
    def intervals(self) -> dict[str, Interval | None]:
        """``figures`` with 95 % by bootstrap over images, those of a group together."""
        return intervals(self.figures, len(self.paths), self.groups)

    @property
    def f1_interval(self) -> Interval:
        """F1 at the threshold, with 95 % by bootstrap over images, those of a group together."""
        found = self.intervals["f1"]
        assert found is not None  # it is defined for every set
        return found

    def score_reliability(self, bins: int = 15) -> Reliability:
        """Score of found boxes against the share that is true at IoU 0.5, from a score of 0.05 up."""
        score_D = np.concatenate([one.score_D for one in self.matches_C])
        is_true_D = np.concatenate([one.is_hit_TD[0] for one in self.matches_C])
        counts_D = score_D >= _LEAST_SCORE
        return reliability(score_D[counts_D], is_true_D[counts_D], bins=bins)

    def summary(self) -> dict[str, Any]:
        """Every figure, ready for ``json.dumps``; a class that is nowhere has None, and without a true box AP has."""
        return {
            "images": len(self.paths),
            "boxes": int(self._counts.sum()),
            "classes": list(self.classes),
            "ap": self.ap,
            "ap50": self.ap50,
            "ap75": _mean(self.ap_C(0.75)),
            "ap_per_class": _plain(self.ap_C()),
            "ap50_per_class": _plain(self.ap_C(0.5)),
            "threshold": self.threshold,
            "recall": self.recall,
            "precision": self.precision,
            "f1": self.f1_interval.as_json(),
            "intervals": intervals_as_json(self.intervals),
            "score_calibration_error": self.score_reliability().expected_error,
        }


def matched(found: Found, truth: Found, counts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which found boxes (best first) hit a true box of their class that no better one has hit, bool[K]."""
    hit = np.zeros(len(found.label_K), bool)
    free = np.ones(len(truth.label_K), bool)
    overlap_KG = iou(found.boxes_K4, truth.boxes_K4)
    for at in np.argsort(-found.score_K, kind="stable"):
        same = free & (truth.label_K == found.label_K[at]) & (overlap_KG[at] >= _HIT_IOU)
        if counts[at] and same.any():
            hit[at] = True
            free[np.flatnonzero(same)[overlap_KG[at][same].argmax()]] = False
    return hit


def iou(first_K4: NDArray[Any], second_G4: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union float[K,G]."""
    low = np.maximum(first_K4[:, None, :2], second_G4[None, :, :2])
    high = np.minimum(first_K4[:, None, 2:], second_G4[None, :, 2:])
    inter = (high - low).clip(0).prod(2)
    area, other = ((b[:, 2:] - b[:, :2]).clip(0).prod(1) for b in (first_K4, second_G4))
    return np.asarray(inter / np.maximum(area[:, None] + other[None] - inter, 1e-9), np.float64)


def _box(box: Sequence[float]) -> dict[str, Any]:
    x0, y0, x1, y1 = (float(value) for value in box)
    return {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}


def _mean(values_C: NDArray[np.float64]) -> float | None:
    return None if np.isnan(values_C).all() else float(np.nanmean(values_C))


def _share(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None


def _f1(hits_R: Floats, truth_R: Floats, found_R: Floats) -> Floats:
    f1_R = share(2 * hits_R, truth_R + found_R)
    return np.where(np.isnan(f1_R), 1.0, f1_R)  # nothing is there and nothing was found


def _plain(values_C: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values_C]
