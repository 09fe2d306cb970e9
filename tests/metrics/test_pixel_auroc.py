import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from pangu_cv.metrics import PixelAuroc


def maps(draw, n=6, shape=(40, 30), seed=0):
    """n maps whose defective pixels score somewhat higher, and their masks."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        mask_HW = rng.uniform(size=shape) < 0.1
        yield draw(rng, mask_HW), mask_HW


SCALES = {
    "uniform": lambda rng, m: rng.uniform(size=m.shape) + 0.5 * m,
    "thirty octaves": lambda rng, m: np.exp2(rng.uniform(-20, 10, m.shape) + 3 * m).astype(np.float32),
    "tiny": lambda rng, m: 1e-30 * (rng.uniform(size=m.shape) + 0.5 * m),
    "huge": lambda rng, m: 1e12 * (rng.uniform(size=m.shape) + 0.5 * m),
    "narrow": lambda rng, m: 1 + 1e-3 * (rng.uniform(size=m.shape) + 0.5 * m),
    "ties": lambda rng, m: (rng.integers(4, size=m.shape) + m).astype(np.float32),
    "half precision": lambda rng, m: (rng.uniform(size=m.shape) + 0.3 * m).astype(np.float16),
}


@pytest.mark.parametrize("scale", SCALES)
def test_agrees_with_sklearn_at_every_scale(scale):
    accumulator, scores, truth = PixelAuroc(), [], []
    for map_HW, mask_HW in maps(SCALES[scale]):
        accumulator.update(map_HW, mask_HW.astype(np.uint8) * 255)
        scores.append(map_HW.ravel())
        truth.append(mask_HW.ravel())
    # The accumulator reads float32; so must the reference, or "narrow" would compare different data.
    scores, truth = np.concatenate(scores).astype(np.float32), np.concatenate(truth)
    result, exact = accumulator.scores(), roc_auc_score(truth, scores)
    assert result.auroc == pytest.approx(exact, abs=1e-4)
    assert abs(result.auroc - exact) <= result.max_error + 1e-9
    # Scores within 0.1 % of each other share 98 bins, and a tie lowers average precision.
    precision = average_precision_score(truth, scores)
    assert result.average_precision == pytest.approx(precision, abs=0.01 if scale == "narrow" else 1e-3)
    assert (result.pixels, result.defective_pixels) == (truth.size, truth.sum())


def test_memory_does_not_grow_with_images():
    accumulator = PixelAuroc()
    sizes = set()
    for map_HW, mask_HW in maps(SCALES["ties"], n=40, shape=(8, 8)):
        accumulator.update(map_HW, mask_HW)
        sizes.add(sum(page.nbytes for page in accumulator._pages.values()))
    assert max(sizes) <= 5 * 2**20


def test_a_large_map_is_counted_whole(monkeypatch):
    monkeypatch.setattr("pangu_cv.metrics.pixel_auroc._CHUNK_PIXELS", 7)
    rng = np.random.default_rng(0)
    map_HW, mask_HW = rng.uniform(size=(9, 11)), rng.uniform(size=(9, 11)) < 0.5
    accumulator = PixelAuroc()
    accumulator.update(map_HW, mask_HW)
    assert accumulator.compute() == pytest.approx(roc_auc_score(mask_HW.ravel(), map_HW.ravel()), abs=1e-4)


def test_undefined_without_both_kinds():
    accumulator = PixelAuroc()
    assert accumulator.compute() is None
    accumulator.update(np.ones((2, 2)), None)
    assert accumulator.compute() is None
    assert accumulator.scores().pixels == 4
    accumulator.update(np.full((2, 2), 2.0), np.ones((2, 2), bool))
    assert accumulator.compute() == 1.0


def test_zero_minus_zero_and_infinity_keep_their_order():
    accumulator = PixelAuroc()
    accumulator.update(np.array([[0.0, -0.0, 1.0]]), None)
    accumulator.update(np.array([[np.inf, 1e300]]), np.ones((1, 2)))
    assert accumulator.compute() == 1.0
    ties = PixelAuroc()
    ties.update(np.array([[0.0, -0.0]]), np.array([[0, 1]]))
    assert ties.compute() == 0.5


@pytest.mark.parametrize("bad", [-0.1, np.nan])
def test_scores_that_have_no_place_are_refused(bad):
    with pytest.raises(ValueError, match="at least 0"):
        PixelAuroc().update(np.array([[0.5, bad]]), None)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
        PixelAuroc().update(np.zeros((2, 3)), np.zeros((3, 2)))
