"""What a dense box head learns from: which places answer for which box, and how wrong they are.

Places are assigned by how well they already do (task-aligned assignment, TOOD, arXiv 2108.07755), from among those near
the middle of a box (FCOS); the score of an assigned place is taught how well its box fits, and that of all others 0,
the hard ones weighing most (quality focal loss, 2006.04388). Boxes learn by generalised IoU (1902.09630).

Shapes: P places, C classes, K boxes of one image.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou, generalized_box_iou_loss

from pangu_cv.models.box_class_losses import BoxClassLoss

_BEST = 9  # places that may answer for a box
_REACH = 0.7  # of half the box's size: how far from its middle a place may lie
_SCORE_POWER, _FIT_POWER = 0.5, 2.0  # TOOD: 1 and 6; from few boxes the fit is poor for long (docs/LOG.md)


@dataclass(frozen=True)
class Assigned:
    """Of every place: the box it answers for (-1: none), and the score it should give, 0..1."""

    box_P: Tensor
    target_P: Tensor


@torch.no_grad()
def assign(logits_PC: Tensor, boxes_P4: Tensor, places_P2: Tensor, truth_K4: Tensor, label_K: Tensor) -> Assigned:
    """Which place answers for which box of one image."""
    count = len(places_P2)
    nothing = Assigned(torch.full((count,), -1, device=places_P2.device), torch.zeros(count, device=places_P2.device))
    if not len(truth_K4):
        return nothing
    middle, half = (truth_K4[:, :2] + truth_K4[:, 2:]) / 2, (truth_K4[:, 2:] - truth_K4[:, :2]) / 2
    offset_KP = ((places_P2[None] - middle[:, None]).abs() / half[:, None].clamp(min=1e-6)).amax(2)
    fit_KP = box_iou(truth_K4, boxes_P4)
    score_KP = logits_PC.sigmoid()[:, label_K].T
    quality_KP = (score_KP + 0.01) ** _SCORE_POWER * (fit_KP + 0.01) ** _FIT_POWER
    quality_KP = quality_KP * (offset_KP <= _REACH) + 1e-9 / (
        1 + offset_KP
    )  # a tiny box has its nearest place at least
    best_KP = torch.zeros_like(quality_KP, dtype=torch.bool)
    best_KP.scatter_(1, quality_KP.topk(min(_BEST, count), 1).indices, True)
    best_KP &= (offset_KP <= _REACH) | (quality_KP >= quality_KP.amax(1, keepdim=True))
    contested_KP = torch.where(best_KP, quality_KP, torch.full_like(quality_KP, -1))
    quality_P, box_P = contested_KP.max(0)
    box_P = torch.where(quality_P >= 0, box_P, torch.full_like(box_P, -1))
    mine_KP = (box_P[None] == torch.arange(len(truth_K4), device=box_P.device)[:, None]).float()
    # The best place of a box is taught the fit of its box, the others in proportion.
    share_KP = mine_KP * quality_KP / (mine_KP * quality_KP).amax(1, keepdim=True).clamp(min=1e-12)
    ceiling_K = (mine_KP * fit_KP).amax(1)
    return Assigned(box_P, (share_KP * ceiling_K[:, None]).sum(0))


def losses(
    logits_PC: Tensor,
    boxes_P4: Tensor,
    assigned: Assigned,
    truth_K4: Tensor,
    label_K: Tensor,
    *,
    classes: BoxClassLoss,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the places of one image: of the score's loss, of the boxes' loss, and of the targets (to divide by)."""
    target_PC = torch.zeros_like(logits_PC)
    chosen = torch.nonzero(assigned.box_P >= 0).flatten()
    box = assigned.box_P[chosen]
    target_PC[chosen, label_K[box]] = assigned.target_P[chosen]
    logits_PC = classes.adjusted(logits_PC, target_PC)
    probability = logits_PC.sigmoid()
    hardness = (target_PC - probability).abs().square()
    each = nn.functional.binary_cross_entropy_with_logits(logits_PC, target_PC, reduction="none")
    score = (hardness * classes.weigh(logits_PC, target_PC) * each).sum()
    weight = assigned.target_P[chosen].clamp(min=0.1)
    fit = (generalized_box_iou_loss(boxes_P4[chosen], truth_K4[box], reduction="none") * weight).sum()
    return score, fit, weight.sum()
