"""The most is asked for the least."""

import numpy as np
import pytest

from pangu_cv.iterate.questions import PricesConfig, entropy_bits, hardest, information_bits, question, typical
from tests.iterate.clusters import clusters

DEAR = PricesConfig(bit_seconds=2.7, label_seconds=60)


def test_a_coin_is_a_bit() -> None:
    np.testing.assert_allclose(information_bits(np.array([0.5, 0.0, 1.0])), [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(entropy_bits(np.array([[0.25] * 4, [0.0] * 4])), [2, 0])


@pytest.mark.parametrize(
    ("shares", "klass"), [([0.1, 0.9, 0.0], 1), ([0.52, 0.48, 0.0], 0), ([0.0, 0.3, 0.7], 2), ([0.0, 0.0, 1.0], 2)]
)
def test_the_class_nearest_to_even_odds_is_asked(shares: list[float], klass: int) -> None:
    assert question(7, np.array(shares), noes=0, prices=DEAR).klass == klass


def test_the_class_is_asked_for_outright_after_noes_and_where_that_is_cheaper() -> None:
    even = np.full(20, 0.05)
    cheap = PricesConfig(bit_seconds=1.5, label_seconds=5)
    assert question(0, even, noes=2, prices=cheap).klass is None
    assert question(0, even, noes=1, prices=cheap).klass is not None
    assert question(0, even, noes=5, prices=DEAR).klass is not None
    assert question(0, np.eye(20)[3], noes=5, prices=cheap).klass == 3


def test_no_two_alike_are_asked_at_once() -> None:
    features, _ = clusters(4, 10, spread=0.0)
    even = np.full((40, 4), 0.25)
    rows = hardest(even, features, is_open_N=np.ones(40, bool), count=10)
    kinds = {tuple(np.round(features[row], 3)) for row in rows}
    assert len(rows) == len(kinds) == 4
    more = hardest(even, features, is_open_N=np.ones(40, bool), count=2, given=rows[:3])
    assert features[more[0]] @ features[rows[3]] > 0.99


def test_the_doubtful_come_first_and_closed_ones_never() -> None:
    features, _ = clusters(3, 2, spread=0.5)
    shares = np.array([[1.0, 0], [0.9, 0.1], [0.5, 0.5], [0.6, 0.4], [0.99, 0.01], [0.5, 0.5]])
    is_open = np.array([True, True, False, True, True, False])
    assert hardest(shares, features, is_open_N=is_open, count=1) == [3]
    assert set(hardest(shares, features, is_open_N=is_open, count=9)) <= {0, 1, 3, 4}
    assert hardest(shares, features, is_open_N=np.zeros(6, bool), count=2) == []


def test_the_start_visits_every_cluster() -> None:
    features, labels = clusters(6, 15)
    assert set(labels[typical(features, 6)]) == set(range(6))
