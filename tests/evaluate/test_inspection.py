import numpy as np
import pytest

from pangu_cv.errors import SettingsError
from pangu_cv.evaluate import as_inspection, good_class
from pangu_cv.metrics import AnomalyOutcome, ClassificationOutcome
from pangu_cv.metrics.detection import DetectionOutcome, Found
from pangu_cv.metrics.multilabel import MultilabelOutcome
from pangu_cv.metrics.segmentation import SegmentationOutcome, pixels_of_classes


def boxes(*scores):
    return Found(np.tile([0.0, 0, 9, 9], (len(scores), 1)), np.zeros(len(scores), int), np.array(scores, float))


def test_a_classifier_scores_what_is_not_good():
    scores_NC = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], np.float32)
    outcome = ClassificationOutcome(("dent", "fine", "rust"), ("x", "y"), scores_NC, np.array([0, 1]))
    found = as_inspection(outcome, good="fine")
    assert found.scores_N == pytest.approx([0.8, 0.7])
    assert found.is_defect_N.tolist() == [True, False]
    assert "'fine'" in found.score_is
    assert as_inspection(outcome) is None


def test_the_good_class_is_the_one_named_or_the_usual_one():
    assert good_class("classify", ("bad", "good"), None) == "good"
    assert good_class("classify", ("bad", "good"), "bad") == "bad"
    assert good_class("classify", ("a", "b"), None) is None
    assert good_class("anomaly", (), None) is None
    with pytest.raises(SettingsError, match="it knows: a, b"):
        good_class("classify", ("a", "b"), "good")
    with pytest.raises(SettingsError, match="'detect'"):
        good_class("detect", ("a",), "a")


def test_an_anomaly_detector_brings_its_threshold():
    scores_N, is_defect_N = np.array([0.2, 0.9]), np.array([False, True])
    outcome = AnomalyOutcome(("x", "y"), scores_N, is_defect_N, is_defect_N, 0.5, ("good", "dent"), 0.01)
    found = as_inspection(outcome)
    assert found.scores_N.tolist() == [0.2, 0.9]
    assert found.own_threshold is not None
    assert 0.5 < found.own_threshold < 0.5 + 1e-6  # its graph lets pass what lies at the threshold


def test_a_detector_scores_its_best_box_and_an_image_without_boxes_is_good():
    sizes, found = ((9, 9),) * 3, (boxes(0.4, 0.9), boxes(), boxes(0.2))
    outcome = DetectionOutcome(("a",), ("x", "y", "z"), sizes, found, (boxes(1), boxes(1), boxes()), 0.3)
    inspection = as_inspection(outcome)
    assert inspection.scores_N.tolist() == [0.9, 0, 0.2]
    assert inspection.is_defect_N.tolist() == [True, True, False]


def test_a_segmenter_scores_its_surest_pixel_and_an_empty_mask_is_good():
    confusion = np.array([[[5, 1], [2, 3]], [[9, 2], [0, 0]]])
    both = ("background", "crack"), ("x", "y"), confusion.sum(0), pixels_of_classes(confusion)
    outcome = SegmentationOutcome(*both, np.array([0.8, 0.6]))
    found = as_inspection(outcome)
    assert found.is_defect_N.tolist() == [True, False]
    assert found.scores_N.tolist() == [0.8, 0.6]
    assert as_inspection(SegmentationOutcome(*both)) is None


def test_a_tagger_scores_its_likeliest_class_and_an_image_that_shows_none_is_good():
    scores_NC, truth_NC = np.array([[0.2, 0.7], [0.4, 0.1]]), np.array([[True, False], [False, False]])
    found = as_inspection(MultilabelOutcome(("a", "b"), ("x", "y"), scores_NC, scores_NC >= 0.5, truth_NC, 0.5))
    assert found.scores_N.tolist() == [0.7, 0.4]
    assert found.is_defect_N.tolist() == [True, False]
    assert found.own_threshold == 0.5
