"""Any model, trained or exported, on any dataset: the same decisions, measured the same way."""

from pangu_cv.evaluate.anomaly import evaluate_anomaly
from pangu_cv.evaluate.classify import classification_outcome, evaluate_classify
from pangu_cv.evaluate.comparable import require_comparable
from pangu_cv.evaluate.decider import (
    Decider,
    Evaluated,
    Loaders,
    TorchDecider,
    class_mask,
    is_masked,
    matching_mask,
)
from pangu_cv.evaluate.detect import evaluate_detect, found_boxes, true_boxes
from pangu_cv.evaluate.inspection import as_inspection, good_class
from pangu_cv.evaluate.multilabel import evaluate_multilabel, require_known, truth_of
from pangu_cv.evaluate.parts import (
    known_to,
    marks_by_path,
    measured_samples,
    passed_over,
    test_samples,
    to_measure,
    with_kin,
)
from pangu_cv.evaluate.segment import evaluate_segment, require_same_masks

__all__ = [
    "Decider",
    "Evaluated",
    "Loaders",
    "TorchDecider",
    "as_inspection",
    "class_mask",
    "classification_outcome",
    "evaluate_anomaly",
    "evaluate_classify",
    "evaluate_detect",
    "evaluate_multilabel",
    "evaluate_segment",
    "found_boxes",
    "good_class",
    "is_masked",
    "known_to",
    "marks_by_path",
    "matching_mask",
    "measured_samples",
    "passed_over",
    "require_comparable",
    "require_known",
    "require_same_masks",
    "test_samples",
    "to_measure",
    "true_boxes",
    "truth_of",
    "with_kin",
]
