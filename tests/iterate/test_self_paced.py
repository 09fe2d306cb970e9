"""Both ends of one ranking."""

import numpy as np
import pytest

from pangu_cv.iterate.self_paced import PaceConfig, fronts, weights


def test_the_weight_falls_from_one_to_nothing_at_the_pace() -> None:
    np.testing.assert_allclose(weights(np.array([0.0, 0.05, 0.1, 2.0]), 0.1), [1, 0.5, 0, 0])


def test_the_pace_grows_to_its_end() -> None:
    pace = PaceConfig(start=0.1, growth=2, end=0.5)
    assert [pace.at(n) for n in range(4)] == [0.1, 0.2, 0.4, 0.5]
    assert pace.at(10**9) == 0.5


def test_fronts_meet_where_no_open_image_is_doubtful() -> None:
    shares = np.array([[0.99, 0.01], [0.95, 0.05], [0.6, 0.4]])
    found = fronts(shares, np.array([True, True, True]), 0.1)
    assert found.weight_N[0] > found.weight_N[1] > 0 == found.weight_N[2]
    assert (found.between, found.have_met) == (1, False)
    assert fronts(shares, np.array([True, True, False]), 0.1).have_met
    np.testing.assert_array_equal(fronts(shares, np.zeros(3, bool), 0.1).weight_N, 0)


def test_the_machine_is_twice_as_careful_for_every_round_of_checks_that_failed() -> None:
    pace = PaceConfig()
    assert pace.at(3, halvings=2) == pytest.approx(pace.at(3) / 4)
    assert pace.at(1000, halvings=1) == pytest.approx(pace.end / 2)
