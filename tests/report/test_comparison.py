from types import SimpleNamespace

import numpy as np
import pytest

from pangu_cv.metrics import AnomalyOutcome, ClassificationOutcome
from pangu_cv.metrics.detection import DetectionOutcome, Found
from pangu_cv.metrics.paired import paired
from pangu_cv.metrics.segmentation import SegmentationOutcome, pixels_of_classes
from pangu_cv.report import Page
from pangu_cv.report.comparison import comparison_report, verdict
from pangu_cv.report.disagreement import Side, disagreement_pictures

NOTHING = Found(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))
ONE = Found(np.array([[2.0, 2, 9, 9]]), np.zeros(1, int), np.ones(1))


def classified(right_N):
    truth_N = np.arange(len(right_N)) % 2
    said_N = np.where(right_N, truth_N, 1 - truth_N)
    paths = tuple(f"/d/{i}.png" for i in range(len(right_N)))
    return ClassificationOutcome(("<ok>", "dent"), paths, np.eye(2)[said_N] * 0.8 + 0.1, truth_N)


def scored(missed):
    is_defect_N = np.arange(30) % 2 == 0
    scores_N = np.where(is_defect_N & (np.arange(30) >= missed), 0.9, 0.1)
    paths, kinds = tuple(f"/d/{i}.png" for i in range(30)), tuple("dent" if d else "good" for d in is_defect_N)
    return AnomalyOutcome(paths, scores_N, is_defect_N, scores_N > 0.5, 0.5, kinds, 0.01)


def boxed(missed):
    found = tuple(NOTHING if i < missed else ONE for i in range(20))
    return DetectionOutcome(("a",), tuple(f"/d/{i}.png" for i in range(20)), ((16, 16),) * 20, found, (ONE,) * 20, 0.3)


def masked(missed):
    each = np.array([[[200, 0], [56, 0]] if i < missed else [[200, 0], [0, 56]] for i in range(20)])
    paths = tuple(f"/d/{i}.png" for i in range(20))
    return SegmentationOutcome(("none", "crack"), paths, each.sum(0), pixels_of_classes(each))


def side(name, outcome, loaded):
    def image(path):
        loaded.append(path)
        return np.full((16, 16, 3), 90, np.uint8)

    def masks(path, classes):
        mask = np.full((16, 16), classes - 1, np.uint8)
        return image(path), mask, mask

    return Side(name, outcome, SimpleNamespace(image=image, map=lambda path: np.ones((16, 16)), masks=masks))


def report(a, b):
    comparison, loaded, page = paired(a, b), [], Page("t")
    comparison_report(page, comparison, "new", "old")
    disagreement_pictures(page, comparison, side("new", a, loaded), side("old", b, loaded))
    return page.html(), loaded


def test_the_verdict_names_the_better_one_in_points():
    a, b = classified(np.arange(120) >= 4), classified(np.arange(120) >= 24)
    told, turned = verdict(paired(a, b), "new", "old"), verdict(paired(b, a), "old", "new")
    assert told.startswith("new is better by 16.7 points [")
    assert told.endswith("of balanced accuracy on these 120 images.")
    assert turned == told


def test_the_verdict_says_where_nothing_can_be_told():
    a, b = classified(np.arange(60) % 7 > 0), classified(np.arange(60) % 8 > 0)
    assert "No difference can be told on these 60 images" in verdict(paired(a, b), "new", "old")
    few = classified(np.ones(6, bool)), classified(np.zeros(6, bool))
    assert verdict(paired(*few), "new", "old") == "Too few images to compare by: 6 images."


def test_a_figure_that_says_the_opposite_is_named():
    truth = tuple(Found(np.array([[2.0, 2, 12, 12]]), np.zeros(1, int), np.ones(1)) for _ in range(40))
    loose = tuple(Found(np.array([[2.0, 2, 12, 9]]), np.zeros(1, int), np.ones(1)) for _ in range(40))
    strict = tuple(one if i % 8 else NOTHING for i, one in enumerate(truth))
    made = [
        DetectionOutcome(("a",), tuple(map(str, range(40))), ((16, 16),) * 40, f, truth, 0.3) for f in (loose, strict)
    ]
    told = verdict(paired(*made), "loose", "strict")
    assert told.startswith("loose is better by")
    assert told.endswith("By AP it is worse.")


def test_counts_and_pictures_of_a_classifier():
    document, loaded = report(classified(np.arange(60) >= 2), classified(np.arange(60) < 40))
    for words in (
        "new against old",
        "only new right",
        "Only new is right",
        "6 of 20 images",
        "2 of 2 images",
        "McNemar",
    ):
        assert words in document
    assert "new: &lt;ok&gt; 90 % · old: dent 90 %" in document
    assert len(loaded) == 6 + 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (scored, "new: anomalous, score 0.9, threshold 0.5"),
        (boxed, "new: 1 of 1 found, 0 imagined"),
        (masked, "new: F1 100.0 %"),
    ],
)
def test_images_are_shown_with_what_each_made_of_them(make, words):
    document, loaded = report(make(0), make(12))
    assert words in document
    assert document.count("<b>0.png</b>") == 1
    assert len(set(loaded)) == 6
    same, none = report(make(0), make(0))
    assert "No difference can be told" in same
    assert not none
