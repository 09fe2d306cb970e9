"""From dense scores and boxes to decisions inside the graph: of boxes that overlap the best one, and of these the best.

Greedy suppression as everyone knows it is a loop over boxes, which exporters and runtimes treat differently.
Cluster-NMS (arXiv 2005.03572) reaches the same result by repeating one step on the matrix of overlaps: after t rounds
it is exact for chains of up to t boxes that suppress each other. Groups of boxes are settled in turn, the best first,
so that no matrix is large and a chain need only be short within a group. Fixed shapes, plain operators.

Many places answer for one object, so more of them enter suppression than boxes are wanted. An object is lost only
where its best place is not among them.

Shapes: N images, P places, K of them that enter suppression, M boxes that are kept, G boxes of a group, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_ROUNDS = 16
_GROUP = 150
_PLACES_A_BOX = 6
_PLACES = (600, 2000)  # at least, at most: 600 cost 4 % of the time of a small network at 320 pixels, 1000 cost 10 %


class Boxes(NamedTuple):
    """M boxes an image, the best first: float32[N,M,4] (xyxy), float32[N,M], int64[N,M]; suppressed ones score 0."""

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor


def decide(boxes_NP4: Tensor, scores_NPC: Tensor, *, count: int, overlap: float) -> Boxes:
    """The best ``count`` boxes, by their best class; of those of a class with IoU above ``overlap`` the best stays."""
    best_NP, label_NP = scores_NPC.max(2)
    entering = max(_PLACES[0], min(_PLACES_A_BOX * count, _PLACES[1]))
    scores_NK, place_NK = best_NP.topk(min(entering, best_NP.shape[1]), dim=1)
    boxes_NK4 = boxes_NP4.gather(1, place_NK[..., None].expand(-1, -1, 4))
    labels_NK = label_NP.gather(1, place_NK)
    scores_NK = scores_NK * survivors(boxes_NK4, labels_NK, overlap=overlap)
    scores_NM, order_NM = scores_NK.topk(min(count, scores_NK.shape[1]), dim=1)  # the suppressed go to the end
    boxes_NM4 = boxes_NK4.gather(1, order_NM[..., None].expand(-1, -1, 4))
    return Boxes(boxes_NM4, scores_NM, labels_NK.gather(1, order_NM))


def survivors(boxes_NK4: Tensor, labels_NK: Tensor, *, overlap: float) -> Tensor:
    """1 for a box that no better one of its class suppresses, else 0: float32[N,K]; boxes come the best first."""
    alive: list[Tensor] = []  # float32[N,G,1] of each group
    for start in range(0, boxes_NK4.shape[1], _GROUP):
        boxes_NG4, labels_NG = boxes_NK4[:, start : start + _GROUP], labels_NK[:, start : start + _GROUP]
        end = start + boxes_NG4.shape[1]
        same = labels_NG[:, :, None] == labels_NK[:, None, :end]
        suppressed = ((iou(boxes_NG4, boxes_NK4[:, :end]) > overlap) & same).float()
        # Below 0 where a box of a better group suppresses.
        room_NG1 = 0.5 - suppressed[:, :, :start] @ torch.cat(alive, 1) if alive else 0.5
        within, group_NG1 = suppressed[:, :, start:].tril(-1), torch.ones_like(boxes_NG4[..., :1])
        for _ in range(_ROUNDS):
            group_NG1 = (within @ group_NG1 < room_NG1).float()
        alive.append(group_NG1)
    return torch.cat(alive, 1)[..., 0]


def iou(first_NK4: Tensor, second_NM4: Tensor) -> Tensor:
    """Intersection over union float32[N,K,M]; 0 for boxes without area."""
    left, top, right, bottom = first_NK4[:, :, None].unbind(-1)
    left_M, top_M, right_M, bottom_M = second_NM4[:, None].unbind(-1)
    width = (torch.minimum(right, right_M) - torch.maximum(left, left_M)).clamp(min=0)
    height = (torch.minimum(bottom, bottom_M) - torch.maximum(top, top_M)).clamp(min=0)
    inter = width * height
    area = (right - left).clamp(min=0) * (bottom - top).clamp(min=0)
    other = (right_M - left_M).clamp(min=0) * (bottom_M - top_M).clamp(min=0)
    return inter / (area + other - inter).clamp(min=1e-9)
