import numpy as np
import pytest

from pangu_cv.metrics.bootstrap import resampled
from pangu_cv.metrics.segmentation import SegmentationOutcome, confusion, pixels_of_classes


def of(classes, confusion_NCC):
    paths = tuple(map(str, range(len(confusion_NCC))))
    return SegmentationOutcome(classes, paths, confusion_NCC.sum(0), pixels_of_classes(confusion_NCC))


def confusions(n=30, seed=0):
    random = np.random.default_rng(seed)
    confusion_NCC = random.integers(0, 50, (n, 3, 3)) + 100 * np.eye(3, dtype=int)
    confusion_NCC[::5, 2] = 0
    confusion_NCC[::5, :, 2] = 0
    return confusion_NCC


def outcome(n=30, seed=0):
    return of(("none", "a", "b"), confusions(n, seed))


def test_figures_of_a_draw_are_those_of_the_images_drawn():
    o = outcome()
    [counts_RN] = resampled(np.arange(30), resamples=6, seed=0)
    for row, counts_N in enumerate(counts_RN):
        index = np.repeat(np.arange(30), counts_N.astype(int))
        drawn = of(o.classes, confusions()[index])
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
    o = of(("none", "crack"), np.stack([empty, some]))
    assert o.is_defect_N.tolist() == [False, True]


def test_nothing_there_and_nothing_found_is_perfect():
    o = of(("none", "crack"), np.array([[[9, 0], [0, 0]]] * 2))
    assert (o.f1, o.f1_interval.low, o.f1_interval.high) == (1, 1, 1)


def test_every_figure_of_two_images():
    """The second has all that is wrong; the background counts in the mean IoU alone."""
    o = of(
        ("none", "a", "b"),
        np.array([[[30, 0, 0], [0, 10, 0], [0, 0, 0]], [[20, 4, 6], [10, 10, 0], [0, 5, 5]]]),
    )
    f1_a, f1_b, of_second = 2 * 20 / (30 + 29), 2 * 5 / (10 + 11), (2 * 10 / (20 + 19) + 2 * 5 / (10 + 11)) / 2
    found = o.summary()
    assert o.f1_per_image_N is o.f1_per_image_N  # it is counted once
    assert o.f1_per_image_N == pytest.approx([1, of_second])
    assert (found["images"], found["classes"]) == (2, ["none", "a", "b"])
    assert found["pixel_confusion"] == [[50, 4, 6], [10, 20, 0], [0, 5, 5]]
    assert found["f1"] == found["f1_interval"]["mean"] == pytest.approx((f1_a + f1_b) / 2)
    assert found["f1_per_image"]["mean"] == pytest.approx((1 + of_second) / 2)
    assert found["mean_iou"] == pytest.approx((50 / 70 + 20 / 39 + 5 / 16) / 3)
    assert {name: one["mean"] for name, one in found["intervals"].items()} == pytest.approx(
        {"f1": found["f1"], "mean_iou": found["mean_iou"]}
    )
    assert found["iou_per_class"] == pytest.approx([50 / 70, 20 / 39, 5 / 16])
    assert found["f1_per_class"] == pytest.approx([100 / 120, f1_a, f1_b])
    assert found["precision_per_class"] == pytest.approx([50 / 60, 20 / 29, 5 / 11])
    assert found["recall_per_class"] == pytest.approx([50 / 60, 20 / 30, 5 / 10])
    assert found["average_precision_per_class"] == [None] * 3


def test_what_is_kept_of_an_image_is_its_diagonal_and_its_margins():
    kept_N3C = pixels_of_classes(confusions())
    for one, (hits, truth, found) in zip(confusions(), kept_N3C, strict=True):
        assert hits.tolist() == np.diag(one).tolist()
        assert (truth.tolist(), found.tolist()) == (one.sum(1).tolist(), one.sum(0).tolist())
