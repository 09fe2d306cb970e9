import numpy as np
import pytest
from scipy import stats

from pangu_cv.metrics import Interval, mean_interval, paired_gain, proportion_interval


def test_mean_interval_is_students():
    values = [0.91, 0.87, 0.93, 0.9, 0.88]
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    interval = mean_interval(values)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((np.mean(values), low, high))
    assert interval.n == 5


def test_one_value_has_no_ends():
    assert mean_interval([0.5]) == Interval(0.5, None, None, 1)
    assert 7.0 in mean_interval([0.5])


def test_pairs_see_a_gain_that_the_spread_hides():
    base = np.array([0.3, 0.5, 0.7, 0.9])
    better = base + np.array([0.02, 0.03, 0.02, 0.03])
    gain = paired_gain(better, base)
    assert gain.mean == pytest.approx(0.025)
    assert gain.low is not None
    assert gain.low > 0
    assert mean_interval(base).high > mean_interval(better).low  # unpaired, they overlap


@pytest.mark.parametrize(("hits", "total"), [(0, 20), (1, 20), (10, 20), (20, 20), (3, 1000)])
def test_proportion_interval_is_wilsons(hits, total):
    expected = stats.binomtest(hits, total).proportion_ci(0.95, method="wilson")
    interval = proportion_interval(hits, total)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert hits / total in interval


def test_a_share_of_nothing_is_none():
    assert proportion_interval(0, 0) is None


@pytest.mark.parametrize(
    "call",
    [
        lambda: mean_interval([]),
        lambda: mean_interval([1.0, float("nan")]),
        lambda: paired_gain([1.0, 2.0], [1.0]),
        lambda: proportion_interval(3, 2),
    ],
)
def test_nonsense_is_refused(call):
    with pytest.raises(ValueError, match=r"interval|length|hits"):
        call()
