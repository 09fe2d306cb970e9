import pytest
import torch
from torch import Tensor

from pangu_cv.models.box_class_losses import BoxClassLoss, plain
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


def test_of_places_that_fit_alike_the_surest_of_the_class_is_best() -> None:
    truth, label = torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.tensor([1])  # its middle is amid four places
    logits = torch.zeros(SIDE**2, 2)
    logits[2 * SIDE + 3, 1] = 3.0
    logits[3 * SIDE + 2, 0] = 9.0
    found = assign(logits, boxes_around(16.0), places(), truth, label)
    assert int(found.target_P.argmax()) == 2 * SIDE + 3
    others = [2 * SIDE + 2, 3 * SIDE + 2, 3 * SIDE + 3]
    assert (found.target_P[others] < 0.8 * found.target_P.max()).all()
    assert len(set(found.target_P[others].tolist())) == 1  # the score of another class says nothing


def test_classes_count_as_their_loss_says_and_boxes_alike() -> None:
    truth, label = torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.tensor([1])
    logits = torch.randn(SIDE**2, 2, generator=torch.Generator().manual_seed(0))
    found = assign(logits, boxes_around(16.0), places(), truth, label)

    def score(
        logits_PC: Tensor, *, weight: tuple[float, float] = (1, 1), offset: tuple[float, float] = (0, 0)
    ) -> float:
        classes = BoxClassLoss(torch.tensor(offset), lambda _, target_PC: torch.tensor(weight).expand_as(target_PC))
        score, *of_boxes = losses(logits_PC, boxes_around(12.0), found, truth, label, classes=classes)
        assert of_boxes == list(losses(logits, boxes_around(12.0), found, truth, label, classes=plain(2))[1:])
        return float(score)

    of_class = [score(logits, weight=(1, 0)), score(logits, weight=(0, 1))]
    assert score(logits, weight=(2, 5)) == pytest.approx(2 * of_class[0] + 5 * of_class[1])
    moved = logits + torch.tensor([1.0, -3.0]) * (found.box_P >= 0)[:, None]  # where something is, and nowhere else
    assert score(logits, offset=(1, -3)) == pytest.approx(score(moved)) != score(logits)
