"""Any task's outcome as a gate that passes or rejects an image: one score an image, and which images are defective."""

from collections.abc import Sequence

import numpy as np

from pangu_cv.errors import SettingsError
from pangu_cv.metrics import AnomalyOutcome, ClassificationOutcome
from pangu_cv.metrics.detection import DetectionOutcome
from pangu_cv.metrics.inspection import Inspection
from pangu_cv.metrics.multilabel import MultilabelOutcome
from pangu_cv.metrics.segmentation import SegmentationOutcome
from pangu_cv.tasks.anomaly import NORMAL


def good_class(task: str, classes: Sequence[str], asked: str | None) -> str | None:
    """The class of good images: the one asked for, else ``good`` where a classifier knows it, else None.

    Raises SettingsError for a name the classifier does not know, or for any name where the task is another.
    """
    if task != "classify":
        if asked is not None:
            raise SettingsError(f"--good names a class of a classifier; this model's task is '{task}' and needs none")
        return None
    if asked is not None and asked not in classes:
        raise SettingsError(f"--good {asked}: the model does not know this class; it knows: {', '.join(classes)}")
    return asked or (NORMAL if NORMAL in classes else None)


def as_inspection(outcome: object, *, good: str | None = None) -> Inspection | None:
    """The gate that an outcome makes; None for a classifier where ``good`` names no class, and for other tasks."""
    match outcome:
        case ClassificationOutcome() if good is not None:
            number = outcome.classes.index(good)
            score_N = (1 - outcome.scores_NC[:, number].astype(np.float64)).clip(0)
            return Inspection(score_N, np.asarray(outcome.truth_N != number), f"1 − probability of '{good}'")
        case AnomalyOutcome():
            # Its graph flags what is above the threshold, a gate rejects what reaches it.
            just_above = float(np.nextafter(np.float32(outcome.threshold), np.float32(np.inf)))
            return Inspection(outcome.scores_N, outcome.is_defect_N, "anomaly score", just_above)
        case DetectionOutcome():
            score_N = np.array([one.score_K.max(initial=0) for one in outcome.found])
            is_defect_N = np.array([len(one.label_K) > 0 for one in outcome.truth])
            return Inspection(score_N, is_defect_N, "score of the best box, 0 without any", outcome.threshold)
        case SegmentationOutcome() if outcome.defect_confidence_N is not None:
            score_is = "highest confidence of a pixel called defective (one pixel is enough), 0 without any"
            return Inspection(outcome.defect_confidence_N, outcome.is_defect_N, score_is)
        case MultilabelOutcome():
            score_is = "highest score of any class; an image that shows any class counts as defective"
            shows_any_N = np.asarray(outcome.truth_NC.any(1))
            return Inspection(outcome.scores_NC.max(1), shows_any_N, score_is, outcome.threshold)
        case _:
            return None
