import numpy as np
import pytest

from pangu_cv.metrics.calibration import reliability


def test_gap_of_a_known_case():
    stats = reliability(np.array([0.95] * 4 + [0.25] * 4), np.array([True, True, True, False] + [False] * 4), bins=10)
    assert stats.count_B.tolist() == [0, 0, 4, 0, 0, 0, 0, 0, 0, 4]
    assert (stats.confidence_B[9], stats.accuracy_B[9]) == pytest.approx((0.95, 0.75))
    assert stats.expected_error == pytest.approx((0.2 + 0.25) / 2)


def test_of_nothing_there_is_no_error():
    assert reliability(np.zeros(0), np.zeros(0, bool)).expected_error is None
