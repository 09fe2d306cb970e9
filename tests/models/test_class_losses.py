import pytest
import torch
from torch import nn

from pangu_cv.models.class_losses import Acsl, ClassBalanced, CrossEntropy, LogitAdjusted, Seesaw

LOGITS = torch.tensor([[2.0, 1.0, 0.5], [0.2, 0.1, 1.5], [1.0, 3.0, -1.0]])
LABELS = torch.tensor([0, 2, 0])
PLAIN = float(nn.functional.cross_entropy(LOGITS, LABELS))


@pytest.mark.parametrize(
    "config",
    [CrossEntropy(smoothing=0), LogitAdjusted(smoothing=0), ClassBalanced(smoothing=0), Seesaw(compensation=0)],
)
def test_of_equal_classes_all_are_cross_entropy(config: CrossEntropy) -> None:
    assert float(config.build([7, 7, 7])(LOGITS, LABELS)) == pytest.approx(PLAIN)


def test_logit_adjustment_asks_more_for_the_rare_class() -> None:
    """The loss of a rare class's image is the one of logits lowered by the class's log share."""
    loss = LogitAdjusted(smoothing=0).build([90, 9, 1])
    expected = nn.functional.cross_entropy(LOGITS + torch.tensor([0.9, 0.09, 0.01]).log(), LABELS)
    assert float(loss(LOGITS, LABELS)) == pytest.approx(float(expected))
    rare, common = (float(loss(torch.zeros(1, 3), torch.tensor([label]))) for label in (2, 0))
    assert rare > 4
    assert common < 0.2


@pytest.mark.parametrize("config", [LogitAdjusted(), ClassBalanced()])
@pytest.mark.parametrize("counts", [(390, 10), (990, 10), (500, 5, 5, 5, 5)])
def test_smoothing_leaves_the_answer_of_a_common_class(config: LogitAdjusted, counts: tuple[int, ...]) -> None:
    """The logits that an image of the commonest class is taught, however rare the others are."""
    loss, logits = config.build(counts), torch.zeros(1, len(counts), requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=200)

    def step() -> float:
        optimiser.zero_grad()
        value = loss(logits, torch.tensor([0]))
        value.backward()
        return float(value.detach())

    optimiser.step(step)
    assert float(logits.detach().softmax(1)[0, 0]) > 0.8


@pytest.mark.parametrize("config", [LogitAdjusted(), ClassBalanced()])
def test_of_equal_classes_smoothing_is_the_plain_one(config: LogitAdjusted) -> None:
    expected = float(CrossEntropy().build([7, 7, 7])(LOGITS, LABELS))
    assert float(config.build([7, 7, 7])(LOGITS, LABELS)) == pytest.approx(expected)


def test_class_balanced_weighs_by_effective_number() -> None:
    beta, counts = 0.9, [100, 1, 10]
    weight = torch.tensor([(1 - beta) / (1 - beta**n) for n in counts])
    expected = nn.functional.cross_entropy(LOGITS, LABELS, weight=weight)
    assert float(ClassBalanced(beta=beta, smoothing=0).build(counts)(LOGITS, LABELS)) == pytest.approx(float(expected))


def test_seesaw_spares_the_rare_class_and_not_the_common_one() -> None:
    logits = torch.zeros(1, 2, requires_grad=True)
    loss = Seesaw().build([100, 1])
    push = {}
    for label in (0, 1):
        logits.grad = None
        loss(logits, torch.tensor([label])).backward()
        assert logits.grad is not None
        push[label] = float(logits.grad[0, 1 - label])
    assert push[0] < 0.03  # the rare class, negative of a common image: 100^-0.8 of the weight
    assert push[1] == pytest.approx(0.5)


def test_seesaw_pushes_down_a_wrong_answer_again() -> None:
    right, wrong = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    loss, label = Seesaw(), torch.tensor([0])
    with_, without = loss.build([100, 1]), Seesaw(compensation=0).build([100, 1])
    assert float(with_(right, label)) == pytest.approx(float(without(right, label)))
    assert float(with_(wrong, label)) > float(without(wrong, label)) + 1


def test_acsl_tells_only_those_who_are_mistaken() -> None:
    logits = torch.tensor([[0.0, 2.0, 0.3]], requires_grad=True)
    Acsl().build([1, 1, 1])(logits, torch.tensor([0])).backward()
    assert logits.grad is not None
    assert (logits.grad[0] != 0).tolist() == [True, True, False]
