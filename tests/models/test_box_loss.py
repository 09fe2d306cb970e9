import pytest
import torch
from torch import Tensor

from pangu_cv.models.box_class_losses import plain
from pangu_cv.models.box_loss import assign, losses

SIDE, STRIDE = 8, 8


def places() -> Tensor:
    at = (torch.arange(SIDE) + 0.5) * STRIDE
    y, x = torch.meshgrid(at, at, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


def boxes_around(half: float) -> Tensor:
    return torch.cat([places() - half, places() + half], 1)


def test_places_near_the_middle_answer_and_the_best_is_taught_its_fit() -> None:
    truth, label = torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.tensor([1])
    boxes = boxes_around(16.0)
    found = assign(torch.zeros(SIDE**2, 2), boxes, places(), truth, label)
    chosen = torch.nonzero(found.box_P >= 0).flatten()
    inside = ((places()[chosen] - 24).abs() <= 16).all(1)
    assert 1 <= len(chosen) <= 9
    assert inside.all()
    best = int(found.target_P.argmax())
    overlap = 28 * 28 / (2 * 32 * 32 - 28 * 28)  # the nearest place is 4 pixels off in both directions
    assert float(found.target_P[best]) == pytest.approx(overlap, rel=1e-4)
    assert float(found.target_P.max()) <= 1
    assert (found.target_P[found.box_P < 0] == 0).all()


def test_a_tiny_box_has_one_place_at_least_and_two_boxes_share_none() -> None:
    truth = torch.tensor([[1.0, 1.0, 2.0, 2.0], [20.0, 20.0, 52.0, 52.0]])
    found = assign(torch.zeros(SIDE**2, 1), boxes_around(2.0), places(), truth, torch.tensor([0, 0]))
    assert int((found.box_P == 0).sum()) == 1
    assert int(found.box_P[0]) == 0  # the nearest
    assert int((found.box_P == 1).sum()) >= 1


def test_without_boxes_nothing_answers() -> None:
    found = assign(torch.zeros(SIDE**2, 1), boxes_around(4.0), places(), torch.zeros(0, 4), torch.zeros(0).long())
    assert (found.box_P == -1).all()
    assert (found.target_P == 0).all()


def test_right_answers_cost_less_than_wrong_ones() -> None:
    truth, label = torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.tensor([1])
    found = assign(torch.zeros(SIDE**2, 2), boxes_around(16.0), places(), truth, label)
    right = torch.full((SIDE**2, 2), -8.0)
    right[:, 1] = torch.logit(found.target_P.clamp(1e-3, 1 - 1e-3))
    wrong = right.flip(1)
    exact = truth.expand(SIDE**2, 4)
    score, fit, weight = losses(right, exact, found, truth, label, classes=plain(2))
    other_score, other_fit, _ = losses(wrong, boxes_around(4.0), found, truth, label, classes=plain(2))
    assert float(score) < 0.05 * float(other_score)
    assert float(fit) == pytest.approx(0, abs=1e-5)
    assert float(other_fit) > 0.5 * float(weight)
