import pytest
import torch

from pangu_cv.models.platt import FALLBACK, platt, platt_per_class


def drawn(slope: float, offset: float, *, count: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    scores = torch.rand(count, generator=rng, dtype=torch.float64)
    return scores, torch.rand(count, generator=rng) < (slope * scores + offset).sigmoid()


@pytest.mark.parametrize(("slope", "offset"), [(8.0, -4.0), (3.0, 0.5), (20.0, -15.0)])
def test_the_sigmoid_that_made_the_truth_is_found(slope: float, offset: float) -> None:
    found = platt(*drawn(slope, offset))
    assert found
    assert found.slope == pytest.approx(slope, rel=0.1)
    assert found.offset == pytest.approx(offset, rel=0.1, abs=0.15)


def test_it_is_the_optimum_of_the_smoothed_likelihood() -> None:
    scores, present = drawn(5.0, -2.0, count=40)
    found = platt(scores, present)
    assert found
    positives = int(present.sum())
    sure = torch.where(present, (positives + 1) / (positives + 2), 1 / (40 - positives + 2)).double()

    def loss(slope: float, offset: float) -> float:
        return float(torch.nn.functional.binary_cross_entropy_with_logits(slope * scores + offset, sure))

    best = loss(found.slope, found.offset)
    for change in (-0.3, 0.3):
        assert best < loss(found.slope + change, found.offset)
        assert best < loss(found.slope, found.offset + change)


def test_perfectly_told_apart_leaves_doubt() -> None:
    found = platt(torch.tensor([0.0, 0.1, 0.9, 1.0]), torch.tensor([False, False, True, True]))
    assert found
    assert 0.6 < float(torch.tensor(found.slope * 1.0 + found.offset).sigmoid()) < 0.95


def test_scores_that_say_the_opposite_are_not_believed() -> None:
    scores, present = drawn(8.0, -4.0, count=200)
    assert platt(1 - scores, present) is None


def test_a_class_with_too_few_images_takes_the_sigmoid_of_all() -> None:
    scores, present = (column.view(-1, 2) for column in drawn(8.0, -4.0, count=400))
    present = present.clone()
    present[:, 1] = False
    present[0, 1] = True
    own, shared = platt_per_class(scores, present)
    assert own == platt(scores[:, 0], present[:, 0])
    assert shared == platt(scores.flatten(), present.flatten())


def test_nothing_to_learn_from_is_even_odds_halfway() -> None:
    assert platt_per_class(torch.rand(4, 2), torch.ones(4, 2, dtype=torch.bool)) == [FALLBACK, FALLBACK]
    assert FALLBACK.slope * 0.5 + FALLBACK.offset == 0
