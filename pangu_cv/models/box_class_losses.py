"""The losses for classes of very different frequency, on the sigmoid scores of a dense box head.

Places that show nothing push every class down alike, as before; what differs is how the classes treat each other where
something is. ACSL (arXiv 2104.00885) was made for detectors; logit adjustment (2007.07314), class-balanced weights
(1901.05555) and Seesaw (2008.10032) are carried over from softmax to sigmoid (our reading).

Shapes: P places, C classes; ``counts`` are the labelled boxes of each class.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pangu_cv.models.class_losses import Acsl, ClassBalanced, ClassLoss, LogitAdjusted, Seesaw

Weigh = Callable[[Tensor, Tensor], Tensor]
"""Logits and targets float32[P,C] to the weight of each of their losses float32[P,C]."""


@dataclass(frozen=True)
class BoxClassLoss:
    """``offset_C`` is added to the logits of places that show something, in training alone; ``weigh`` says how much
    each score's loss counts.
    """

    offset_C: Tensor
    weigh: Weigh

    @classmethod
    def build(cls, loss: ClassLoss, counts: Sequence[int]) -> "BoxClassLoss":
        """The loss of a recipe for boxes."""
        number_C = torch.tensor(counts, dtype=torch.float32).clamp(min=1)
        offset_C = torch.zeros(len(counts))
        match loss:
            case LogitAdjusted():
                return cls(loss.strength * (number_C / number_C.mean()).log(), _alike)
            case ClassBalanced():
                return cls(offset_C, _balanced(loss.weights(counts)))
            case Seesaw():
                return cls(offset_C, _seesaw(loss, number_C))
            case Acsl():
                return cls(offset_C, _acsl(loss))
            case _:
                return cls(offset_C, _alike)

    def adjusted(self, logits_PC: Tensor, target_PC: Tensor) -> Tensor:
        """The logits that are learnt by."""
        return logits_PC + self.offset_C.to(logits_PC.device) * (target_PC > 0).any(1, keepdim=True)


def plain(classes: int) -> BoxClassLoss:
    """All classes alike."""
    return BoxClassLoss(torch.zeros(classes), _alike)


def _alike(logits_PC: Tensor, target_PC: Tensor) -> Tensor:
    return torch.ones_like(logits_PC)


def _balanced(weight_C: Tensor) -> Weigh:
    def weigh(logits_PC: Tensor, target_PC: Tensor) -> Tensor:
        return torch.where(target_PC > 0, weight_C.to(logits_PC.device), 1.0)

    return weigh


def _seesaw(loss: Seesaw, number_C: Tensor) -> Weigh:
    # Row: the class shown, column: the class pushed down.
    mitigation_CC = (number_C[None, :] / number_C[:, None]).clamp(max=1) ** loss.mitigation

    def weigh(logits_PC: Tensor, target_PC: Tensor) -> Tensor:
        shown_P1 = target_PC.argmax(1, keepdim=True)
        score_PC = logits_PC.detach().sigmoid()
        ratio_PC = score_PC / score_PC.gather(1, shown_P1).clamp(min=1e-3)
        factor_PC = mitigation_CC.to(logits_PC.device)[shown_P1[:, 0]] * ratio_PC.clamp(min=1) ** loss.compensation
        return torch.where(_others(target_PC), factor_PC, 1.0)

    return weigh


def _acsl(loss: Acsl) -> Weigh:
    def weigh(logits_PC: Tensor, target_PC: Tensor) -> Tensor:
        is_confused = logits_PC.detach().sigmoid() >= loss.limit
        return torch.where(_others(target_PC), is_confused.float(), 1.0)

    return weigh


def _others(target_PC: Tensor) -> Tensor:
    """The classes that a place does not show, where it shows one."""
    return (target_PC == 0) & (target_PC > 0).any(1, keepdim=True)
