import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from pangu_cv.metrics import pixel_confidence
from pangu_cv.metrics.calibration import reliability
from pangu_cv.metrics.pixel_confidence import PixelConfidence

IGNORE = 255


def images(classes: int, *, count: int = 3, side: int = 40):
    """Masks, decisions and their confidences; probabilities lie in the middle of bins, so that nothing is rounded."""
    random = np.random.default_rng(0)
    for _ in range(count):
        truth = random.integers(0, classes, (side, side)).astype(np.uint8)
        logits = 2 * np.eye(classes)[truth] + 2 * random.normal(size=(side, side, classes))
        share = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        confidence = (np.floor(share.max(-1) * 3000) + 0.5) / 3000
        truth[:3] = IGNORE
        yield truth, share.argmax(-1).astype(np.uint8), confidence


def counted(classes: int) -> PixelConfidence:
    pixels = PixelConfidence(classes)
    for image in images(classes):
        pixels.update(*image)
    return pixels


def test_of_two_classes_every_pixel_is_ranked_as_if_all_were_kept(monkeypatch):
    monkeypatch.setattr(pixel_confidence, "_CHUNK_PIXELS", 999)
    pixels = counted(2)
    truth, found, confidence = (np.concatenate([one.ravel() for one in part]) for part in zip(*images(2), strict=True))
    there, share = truth[truth != IGNORE] > 0, np.where(found > 0, confidence, 1 - confidence)[truth != IGNORE]
    assert pixels.average_precision(1) == pytest.approx(average_precision_score(there, share))
    recall, precision = pixels.precision_recall(1)
    assert (recall[0], recall[-1]) == (0, pytest.approx(1))
    assert precision[-1] == pytest.approx(there.mean())
    exact, stats = reliability(share[share >= 0.05], there[share >= 0.05], bins=10), pixels.reliability(10)
    assert stats.count_B.tolist() == exact.count_B.tolist()
    np.testing.assert_allclose(stats.confidence_B, exact.confidence_B)
    np.testing.assert_allclose(stats.accuracy_B, exact.accuracy_B)


def test_of_more_classes_a_curve_ends_at_the_recall_of_the_mask():
    pixels = counted(3)
    truth, found, _ = (np.concatenate([one.ravel() for one in part]) for part in zip(*images(3), strict=True))
    for c in (1, 2):
        recall, precision = pixels.precision_recall(c)
        assert recall[-1] == pytest.approx((found[truth == c] == c).mean())
        assert precision[-1] == pytest.approx((truth[(found == c) & (truth != IGNORE)] == c).mean())


def test_a_class_that_is_nowhere_has_no_curve_and_one_never_found_no_precision():
    pixels, ones = PixelConfidence(3), np.ones((4, 4), np.uint8)
    pixels.update(ones, 0 * ones, np.full((4, 4), 0.9))
    assert (pixels.precision_recall(1), pixels.average_precision(1)) == (None, 0)
    assert (pixels.precision_recall(2), pixels.average_precision(2)) == (None, None)
    assert pixels.reliability().expected_error is None
