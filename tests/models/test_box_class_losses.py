import math

import pytest
import torch

from pangu_cv.models.box_class_losses import BoxClassLoss, plain
from pangu_cv.models.class_losses import Acsl, ClassBalanced, CrossEntropy, LogitAdjusted, Seesaw

COUNTS = (100, 1)
COMMON, RARE, NOTHING = 0, 1, 2  # what each of three places shows
TARGET = torch.tensor([[0.9, 0.0], [0.0, 0.9], [0.0, 0.0]])
LOGITS = torch.zeros(3, 2)


def weights(loss: BoxClassLoss, logits: torch.Tensor = LOGITS) -> list[list[float]]:
    return loss.weigh(logits, TARGET).tolist()


def test_equal_counts_change_nothing_where_frequency_decides() -> None:
    for config in (CrossEntropy(), LogitAdjusted(), ClassBalanced(), Seesaw()):
        made = BoxClassLoss.build(config, (5, 5))
        assert made.offset_C.tolist() == [0, 0]
        assert weights(made) == [[1, 1], [1, 1], [1, 1]]
    assert plain(2).offset_C.tolist() == [0, 0]


def test_logit_adjustment_asks_more_of_the_rare_class_in_training() -> None:
    made = BoxClassLoss.build(LogitAdjusted(), COUNTS)
    offset = made.offset_C
    assert float(offset[0] - offset[1]) == pytest.approx(math.log(100), rel=1e-5)
    assert made.adjusted(LOGITS, TARGET).tolist() == [offset.tolist(), offset.tolist(), [0, 0]]


def test_balanced_weights_count_places_of_the_rare_class_more() -> None:
    found = weights(BoxClassLoss.build(ClassBalanced(), COUNTS))
    assert found[RARE][1] > 10 * found[COMMON][0]
    assert found[NOTHING] == [1, 1]
    assert (found[COMMON][1], found[RARE][0]) == (1, 1)


def test_seesaw_spares_the_rare_class_where_the_common_one_is_and_not_the_reverse() -> None:
    made = BoxClassLoss.build(Seesaw(mitigation=0.5, compensation=1.0), COUNTS)
    found = weights(made)
    assert found[COMMON][1] == pytest.approx(0.1)
    assert found[RARE][0] == 1
    assert found[NOTHING] == [1, 1]
    wrong = torch.tensor([[0.0, 4.0], [0.0, 0.0], [9.0, 9.0]])
    assert weights(made, wrong)[COMMON][1] == pytest.approx(0.2 / (1 + math.exp(-4)), rel=1e-5)


def test_acsl_pushes_only_what_is_mistaken() -> None:
    made = BoxClassLoss.build(Acsl(limit=0.7), COUNTS)
    assert weights(made) == [[1, 0], [0, 1], [1, 1]]
    assert weights(made, torch.tensor([[0.0, 3.0], [0.0, 0.0], [0.0, 0.0]]))[COMMON] == [1, 1]
