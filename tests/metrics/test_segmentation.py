import numpy as np
import pytest

from pangu_cv.metrics.bootstrap import resampled
from pangu_cv.metrics.segmentation import SegmentationOutcome, confusion


def outcome(n=30, seed=0):
    random = np.random.default_rng(seed)
    confusion_NCC = random.integers(0, 50, (n, 3, 3)) + 100 * np.eye(3, dtype=int)
    confusion_NCC[::5, 2] = 0
    confusion_NCC[::5, :, 2] = 0
    return SegmentationOutcome(("none", "a", "b"), tuple(map(str, range(n))), confusion_NCC)


def test_figures_of_a_draw_are_those_of_the_images_drawn():
    o = outcome()
    [counts_RN] = resampled(30, resamples=6, seed=0)
    for row, counts_N in enumerate(counts_RN):
        index = np.repeat(np.arange(30), counts_N.astype(int))
        drawn = SegmentationOutcome(o.classes, tuple(map(str, range(30))), o.confusion_NCC[index])
        assert o.figures["f1"](counts_RN)[row] == pytest.approx(drawn.f1)
        assert o.figures["mean_iou"](counts_RN)[row] == pytest.approx(drawn.mean_iou)


def test_intervals_hold_their_figures():
    o = outcome()
    assert o.f1_interval.low < o.f1 < o.f1_interval.high
    assert o.intervals["mean_iou"].mean == pytest.approx(o.mean_iou)


def test_defective_is_an_image_whose_mask_holds_anything():
    truth = np.zeros((4, 4), np.uint8)
    empty = confusion(truth, np.ones((4, 4), np.uint8), classes=2)
    truth[0, 0] = 1
    some = confusion(truth, np.zeros((4, 4), np.uint8), classes=2)
    o = SegmentationOutcome(("none", "crack"), ("x", "y"), np.stack([empty, some]))
    assert o.is_defect_N.tolist() == [False, True]


def test_nothing_there_and_nothing_found_is_perfect():
    o = SegmentationOutcome(("none", "crack"), ("x", "y"), np.array([[[9, 0], [0, 0]]] * 2))
    assert (o.f1, o.f1_interval.low, o.f1_interval.high) == (1, 1, 1)


def test_f1_per_image_is_counted_once():
    o = outcome()
    assert o.f1_per_image_N is o.f1_per_image_N
