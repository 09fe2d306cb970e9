import math
import re

import numpy as np
import pytest

from pangu_cv.tasks.conformal import conformal_threshold


@pytest.mark.parametrize(("count", "rate", "rank"), [(19, 0.05, 19), (20, 0.05, 20), (39, 0.05, 38), (99, 0.01, 99)])
def test_threshold_is_the_exact_rank(count: int, rate: float, rank: int) -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, count + 1)).tolist()
    found = conformal_threshold(scores, rate=rate)
    assert found.value == rank == math.ceil((count + 1) * (1 - rate) - 1e-9)
    assert found.holds
    assert (found.certified_rate, found.asked_rate, found.normals) == (rate, rate, count)


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.3, 0.7])
def test_rounding_of_the_rate_costs_no_rank(rate: float) -> None:
    """(n + 1)(1 - rate) is a whole number here, which floating point may miss by a hair."""
    assert conformal_threshold(list(map(float, range(1, 100))), rate=rate).value == round(100 * (1 - rate))


@pytest.mark.parametrize("count", [1, 5, 18])
def test_too_few_images_say_the_lowest_rate_and_how_many_would_do(count: int) -> None:
    found = conformal_threshold([float(n) for n in range(count)], rate=0.05)
    assert not found.holds
    assert found.value == count - 1
    assert found.certified_rate == pytest.approx(1 / (count + 1))
    assert f"the lowest rate they can is {1 / (count + 1):.2%}" in found.explain()
    need = re.search(r"(\d+) normal images would do", found.explain())
    assert need
    assert conformal_threshold([1.0] * int(need[1]), rate=0.05).holds
    assert not conformal_threshold([1.0] * (int(need[1]) - 1), rate=0.05).holds


def test_advice_never_asks_for_more_images_than_count() -> None:
    scores = [float(n) for n in range(1000)]
    told = conformal_threshold(scores, rate=0.0005, most=1000).explain()
    assert "would do" not in told
    assert told.endswith("No more than 1000 normal images count, so the lowest rate there is is 0.10%")
    assert "999 normal images would do" in conformal_threshold(scores[:500], rate=0.001, most=1000).explain()


def test_explain_states_the_rate() -> None:
    text = conformal_threshold([1.0] * 50, rate=0.05).explain()
    assert text == "at most 5.00% false alarms, certified by 50 normal images"


@pytest.mark.parametrize(("count", "rate"), [(19, 0.05), (30, 0.1), (9, 0.1), (57, 0.2), (5, 0.05)])
def test_new_normal_images_are_flagged_no_more_often_than_certified(count: int, rate: float) -> None:
    rng = np.random.default_rng(count)
    draws = rng.gamma(2.0, size=(4000, count + 1))
    thresholds = [conformal_threshold(row[:-1].tolist(), rate=rate) for row in draws]
    flagged = np.mean([row[-1] > t.value for row, t in zip(draws, thresholds, strict=True)])
    certified = thresholds[0].certified_rate
    noise = 3 * math.sqrt(certified * (1 - certified) / len(draws))
    assert flagged <= certified + noise
    assert flagged >= certified - 1 / (count + 1) - noise  # and the threshold is not simply very high


def test_ties_are_never_flagged_more_often() -> None:
    rng = np.random.default_rng(0)
    draws = rng.integers(0, 4, size=(4000, 20)).astype(float)
    flagged = np.mean([row[-1] > conformal_threshold(row[:-1].tolist(), rate=0.1).value for row in draws])
    assert flagged <= 0.1 + 0.015
    assert conformal_threshold([2.0] * 30, rate=0.1).value == 2.0
