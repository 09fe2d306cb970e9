import numpy as np
import pytest

from pangu_cv.metrics import box_matches
from pangu_cv.metrics.bootstrap import resampled
from pangu_cv.metrics.detection import DetectionOutcome, Found

IMAGES = 14


def scattered(seed=0):
    """True boxes of two classes, found ones near and far from them, images without either."""
    random = np.random.default_rng(seed)
    truth, found = [], []
    for n in range(IMAGES):
        count = n % 4
        corners = random.uniform(0, 60, (count, 2))
        boxes_G4 = np.concatenate([corners, corners + random.uniform(15, 30, (count, 2))], axis=1)
        label_G = random.integers(0, 2, count)
        truth.append(Found(boxes_G4, label_G, np.ones(count)))
        near = boxes_G4.repeat(2, axis=0) + random.normal(0, 2.0, (2 * count, 4))
        far = np.tile([70.0, 70, 90, 90], (3, 1)) + random.normal(0, 2, (3, 4))
        boxes_K4, label_K = np.concatenate([near, far]), np.concatenate([label_G.repeat(2), random.integers(0, 2, 3)])
        found.append(Found(boxes_K4, label_K, random.uniform(0.01, 1, len(label_K))))
    return outcome(tuple(found), tuple(truth))


def outcome(found, truth):
    n = len(found)
    return DetectionOutcome(("a", "b"), tuple(map(str, range(n))), ((100, 100),) * n, found, truth, 0.3)


def repeated(made, counts_N):
    """The same images, each as often as it counts."""
    index = np.repeat(np.arange(IMAGES), counts_N.astype(int))
    return outcome(tuple(made.found[i] for i in index), tuple(made.truth[i] for i in index))


def test_every_draw_has_the_figure_that_pycocotools_gives_it():
    made = scattered()
    figures = made.figures
    [counts_RN] = resampled(np.arange(IMAGES), resamples=8, seed=1)
    ap_R, ap50_R = figures["ap"](counts_RN), figures["ap50"](counts_RN)
    for row, counts_N in enumerate(counts_RN):
        drawn = repeated(made, counts_N)
        assert 0 < drawn.ap < drawn.ap50 < 1
        assert (ap_R[row], ap50_R[row]) == pytest.approx((drawn.ap, drawn.ap50), abs=1e-9)
        assert figures["recall"](counts_RN)[row] == pytest.approx(drawn.recall)
        assert figures["precision"](counts_RN)[row] == pytest.approx(drawn.precision)


@pytest.mark.parametrize("seed", range(5))
def test_images_as_they_are(seed):
    made = scattered(seed)
    assert made.intervals["ap"].mean == pytest.approx(made.ap, abs=1e-9)
    assert made.intervals["ap50"].mean == pytest.approx(made.ap50, abs=1e-9)
    assert made.intervals["ap50"].low < made.ap50 < made.intervals["ap50"].high


def test_a_class_that_a_draw_lacks_is_undefined_and_nothing_found_is_nothing():
    made = scattered()
    without = np.array([[one.label_K.size == 0 for one in made.truth]], float)
    assert np.isnan(made.figures["ap"](without)[0])
    nothing = Found(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))
    silent = outcome((nothing,) * IMAGES, made.truth)
    assert (silent.ap, silent.intervals["ap"].mean) == (0, 0)


def test_recalls_reached_are_those_of_a_search():
    recall = np.array([[k / n for n in (7, 20, 29, 100) for k in range(n + 1)]])
    searched = np.searchsorted(box_matches.RECALLS, recall, side="right")
    assert np.array_equal(box_matches._recalls_reached(recall), searched)


def test_only_images_with_a_box_of_a_class_are_gone_through_for_it(monkeypatch):
    from pycocotools.cocoeval import COCOeval

    looked, plain = [], COCOeval.evaluateImg

    def look(self, image, label, *rest):
        looked.append((label - 1, image - 1))
        return plain(self, image, label, *rest)

    monkeypatch.setattr(COCOeval, "evaluateImg", look)
    made = scattered()
    assert made.ap
    pairs = {(label, n) for side in (made.found, made.truth) for n, one in enumerate(side) for label in one.label_K}
    assert sorted(looked) == sorted(pairs)
    assert len(pairs) < 2 * IMAGES
    assert [one.image_M.tolist() for one in made.matches_C] == [
        sorted(n for label, n in pairs if label == c) for c in range(2)
    ]
