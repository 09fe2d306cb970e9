"""Arithmetic on weights."""

import pytest
import torch
from torch import Tensor

from pangu_cv.iterate.fuse.weights import between, dare, low_rank, mean, moved, task_sum, ties


def state(seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {"w": torch.randn(6, 5, generator=random), "count": torch.tensor(seed)}


def test_equal_models_give_the_very_same_model() -> None:
    one = state(1)
    for made in (mean([one] * 3), between(one, one, 0.3), moved(one, [one, one], task_sum, 1.0)):
        assert torch.equal(made["w"], one["w"])
        assert torch.equal(made["count"], one["count"])


def test_mean_and_way_between() -> None:
    a, b = state(1), state(2)
    torch.testing.assert_close(mean([a, b])["w"], (a["w"] + b["w"]) / 2)
    torch.testing.assert_close(mean([a, b])["w"], between(a, b, 0.5)["w"])
    assert torch.equal(between(a, b, 0.0)["w"], a["w"])
    assert torch.equal(between(a, b, 1.0)["w"], b["w"])


def test_one_models_difference_in_full_is_that_model() -> None:
    start, end = state(1), state(2)
    for combine in (task_sum, lambda d: ties(d, density=1.0)):
        torch.testing.assert_close(moved(start, [end], combine, 1.0)["w"], end["w"])


def test_ties_elects_a_sign_and_averages_those_that_have_it() -> None:
    deltas = torch.tensor([[3.0, -1.0, 0.1, 4.0], [1.0, -3.0, 0.2, -1.0], [-1.0, 1.0, -4.0, -1.0]])
    torch.testing.assert_close(ties(deltas, density=1.0), torch.tensor([2.0, -2.0, -4.0, 4.0]))
    torch.testing.assert_close(ties(deltas, density=0.25), torch.tensor([0.0, -3.0, -4.0, 4.0]))


def test_formulas_are_pefts() -> None:
    merge = pytest.importorskip("peft.utils.merge_utils")
    deltas = torch.randn(3, 8, 6, generator=torch.Generator().manual_seed(0))
    weights = torch.ones(3)
    torch.testing.assert_close(ties(deltas, density=0.5), merge.ties(list(deltas), weights, 0.5))
    torch.testing.assert_close(task_sum(deltas), merge.task_arithmetic(list(deltas), weights))


def test_dare_keeps_the_mean_and_drops_the_rest() -> None:
    deltas = torch.ones(2, 200, 100)
    kept = dare(deltas, density=0.25, random=torch.Generator().manual_seed(0))
    assert set(kept.unique().tolist()) == {0.0, 4.0}
    assert float(kept.mean()) == pytest.approx(1.0, abs=0.02)


def test_low_rank_is_the_nearest_and_leaves_vectors() -> None:
    matrix = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    torch.testing.assert_close(low_rank(matrix, rank=2), torch.diag(torch.tensor([3.0, 2.0, 0.0])))
    assert torch.equal(low_rank(torch.ones(4), rank=1), torch.ones(4))
