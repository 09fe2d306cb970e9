import pytest
import torch

from pangu_cv.iterate.hard_cases import WeightTrial, _chosen

Tried = tuple[WeightTrial, list[float]]
HARM = [{"usual_loss": 1.1}, {"usual_right": 0.8}]


def tried(*hard_losses: float, usual_loss: float = 1.0, usual_right: float = 0.9) -> Tried:
    mean = sum(hard_losses) / len(hard_losses)
    return WeightTrial(1.0, usual_loss, mean, usual_right, 0.5), list(hard_losses)


WITHOUT = tried(2, 2, 2, 2)


def chosen(*each: Tried) -> int:
    return _chosen([trial for trial, _ in each], [torch.tensor(losses, dtype=torch.float64) for _, losses in each])


@pytest.mark.parametrize("harm", HARM)
def test_of_weights_without_harm_the_lightest_is_taken_that_is_as_good_as_the_best(harm: dict[str, float]) -> None:
    """To one standard error: the third is better on the first case and worse on the second."""
    lighter = tried(0.4, 0.4, 0.4, 0.4, **harm), tried(1, 1, 1, 1), tried(0.3, 0.8, 0.5, 0.5)
    assert chosen(WITHOUT, *lighter, tried(0.5, 0.5, 0.5, 0.5), tried(0.5, 0.5, 0.5, 0.6)) == 3


@pytest.mark.parametrize("harm", HARM)
def test_where_every_weight_does_harm_the_lightest_is_taken(harm: dict[str, float]) -> None:
    assert chosen(WITHOUT, *(tried(loss, loss, **harm) for loss in (1.0, 0.5, 0.2))) == 1
