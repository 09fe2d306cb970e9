import numpy as np
import pytest

from pangu_cv.metrics.detection import DetectionOutcome, Found
from pangu_cv.report import Page, plots
from pangu_cv.report.detection import compared, detection_report
from pangu_cv.report.disagreement import _said

CLASSES = ("dent", "划痕", "凹坑")
IMAGE = np.full((60, 120, 3), 90, np.uint8)
NOTHING = Found(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))


def one(label, score=0.9):
    return Found(np.array([[5.0, 5, 50, 50]]), np.array([label]), np.array([score]))


def outcome(found, truth):
    return DetectionOutcome(CLASSES, ("/data/0.png",), ((120, 60),), (found,), (truth,), 0.5)


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    for name in ("lines", "calibration"):
        monkeypatch.setattr(plots, name, lambda *_, **__: '<svg xmlns="http://www.w3.org/2000/svg"/>')


def report(made):
    page = Page("t")
    detection_report(page, made, load_image=lambda _: IMAGE)
    return page.html()


def test_classes_whose_names_cannot_be_drawn_are_told_apart():
    pictures = [compared(IMAGE, one(label), NOTHING, classes=CLASSES, threshold=0.5) for label in (1, 2)]
    assert not np.array_equal(*pictures)
    assert "#1 = 划痕 · 0.png" in report(outcome(NOTHING, one(1)))
    assert "#2 = 凹坑 · 0.png" in report(outcome(one(2), NOTHING))
    assert "1 imagined · #2 = 凹坑" in _said(outcome(one(2), NOTHING), 0)
    assert "#" not in _said(outcome(one(2, 0.1), one(0)), 0)  # of what is drawn only


def test_average_precision_without_a_true_box_is_a_dash():
    page = report(outcome(one(0), NOTHING))
    assert '<dt>AP50</dt><dd class="value">–</dd>' in page
    assert '<dt>AP</dt><dd class="value">–</dd>' in page


def test_more_boxes_than_coco_counts_are_said():
    left = np.arange(101) * 12.0
    boxes_K4 = np.stack([left, np.zeros(101), left + 10, np.full(101, 10.0)], axis=1)
    many = Found(boxes_K4, np.zeros(101, int), np.full(101, 0.9))
    assert "up to 101 of a class in an image, where COCO counts the best 100" in report(outcome(many, many))
    assert "COCO counts the best" not in report(outcome(one(0), one(0)))
