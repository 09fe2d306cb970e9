"""Boxes and masks that a model contradicts: objects without a box, boxes without an object, other classes.

Shapes: K boxes, H×W pixels. Ours: confident learning asks for classes of whole images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.masks import IGNORE
from pangu_cv.data.sample import Box
from pangu_runtime.predictor import BoxPrediction, MaskPrediction

_SAME, _NEAR = 0.5, 0.1  # IoU from which two boxes are of one object, and below which they have nothing in common


@dataclass(frozen=True, slots=True)
class Contradiction:
    """How strongly (0..1) a model speaks against what is labelled, and in words."""

    strength: float
    why: str


def against_boxes(truth: Sequence[Box], found: BoxPrediction) -> Contradiction | None:
    """The strongest of: a confident box where none is, one of another class, a labelled box that nothing is near."""
    overlap = iou([box.xyxy for box in truth], found.boxes_xyxy.tolist())
    said: list[Contradiction] = []
    for at, (label, score) in enumerate(zip(found.labels, found.scores_K.tolist(), strict=True)):
        best = int(overlap[:, at].argmax()) if len(truth) else -1
        if best < 0 or overlap[best, at] < _NEAR:
            said.append(Contradiction(score, f"{label} found ({score:.0%}) without a box"))
        elif overlap[best, at] >= _SAME and truth[best].label != label:
            said.append(Contradiction(score, f"{truth[best].label} looks like {label} ({score:.0%})"))
    # A box that nothing comes near is less telling than a confident find: detectors miss more than they imagine.
    alone = [box.label for box, row in zip(truth, overlap, strict=True) if row.max(initial=0.0) < _NEAR]
    said += [Contradiction(0.5, f"{label}: labelled, not found") for label in alone]
    return max(said, key=lambda one: one.strength, default=None)


def against_mask(mask_HW: NDArray[np.uint8], found: MaskPrediction) -> Contradiction | None:
    """How little the labelled and the found pixels have in common, weighed by the model's confidence in both."""
    counted = mask_HW != IGNORE
    truth, guess = (mask_HW > 0) & counted, (found.mask_HW > 0) & counted
    either = truth | guess
    if not either.any():
        return None
    weight = np.where(either, found.confidence_HW, 0.0)
    differs = float(weight[mask_HW != found.mask_HW].sum() / max(float(weight.sum()), 1e-9))
    missing, more = int((truth & ~guess).sum()), int((guess & ~truth).sum())
    why = f"{missing} labelled pixels not found, {more} found that are not labelled"
    return Contradiction(differs, why) if differs > _SAME else None


def iou(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Intersection over union of every pair, float64[K1,K2]."""
    a = np.asarray(first, np.float64).reshape(-1, 1, 4)
    b = np.asarray(second, np.float64).reshape(1, -1, 4)
    sides = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0)
    common = sides.prod(-1)
    area = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - common
    return np.asarray(common / np.maximum(area, 1e-12))
