"""From dense scores and boxes to decisions inside the graph: the best K, and of boxes that overlap the best one.

Greedy suppression as everyone knows it is a loop over boxes, which exporters and runtimes treat differently.
Cluster-NMS (arXiv 2005.03572) reaches the same result by repeating one step on the matrix of overlaps: after t rounds
it is exact for chains of up to t boxes that suppress each other. Fixed shapes, plain operators.

Shapes: N images, P places, K boxes kept for suppression, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_ROUNDS = 16


class Boxes(NamedTuple):
    """K boxes an image, the best first: float32[N,K,4] (xyxy), float32[N,K], int64[N,K]; suppressed ones score 0."""

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor


def decide(boxes_NP4: Tensor, scores_NPC: Tensor, *, count: int, overlap: float) -> Boxes:
    """The best ``count`` places by their best class; of boxes of a class with IoU above ``overlap`` the best stays."""
    best_NP, label_NP = scores_NPC.max(2)
    kept = min(count, best_NP.shape[1])
    scores_NK, place_NK = best_NP.topk(kept, dim=1)
    boxes_NK4 = boxes_NP4.gather(1, place_NK[..., None].expand(-1, -1, 4))
    labels_NK = label_NP.gather(1, place_NK)
    scores_NK = scores_NK * survivors(boxes_NK4, labels_NK, overlap=overlap)
    scores_NK, order_NK = scores_NK.topk(kept, dim=1)  # the suppressed go to the end
    boxes_NK4 = boxes_NK4.gather(1, order_NK[..., None].expand(-1, -1, 4))
    return Boxes(boxes_NK4, scores_NK, labels_NK.gather(1, order_NK))


def survivors(boxes_NK4: Tensor, labels_NK: Tensor, *, overlap: float) -> Tensor:
    """1 for a box that no better one of its class suppresses, else 0: float32[N,K]; boxes come the best first."""
    same = labels_NK[:, :, None] == labels_NK[:, None, :]
    above = torch.ones(boxes_NK4.shape[1], boxes_NK4.shape[1], device=boxes_NK4.device).tril(-1) > 0
    suppresses = ((iou(boxes_NK4, boxes_NK4) > overlap) & same & above).float()
    alive = torch.ones_like(boxes_NK4[..., 0])
    for _ in range(_ROUNDS):
        alive = ((suppresses @ alive[..., None])[..., 0] < 0.5).float()
    return alive


def iou(first_NK4: Tensor, second_NM4: Tensor) -> Tensor:
    """Intersection over union float32[N,K,M]; 0 for boxes without area."""
    low = torch.maximum(first_NK4[:, :, None, :2], second_NM4[:, None, :, :2])
    high = torch.minimum(first_NK4[:, :, None, 2:], second_NM4[:, None, :, 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    area = ((first_NK4[..., 2:] - first_NK4[..., :2]).clamp(min=0).prod(-1))[:, :, None]
    other = ((second_NM4[..., 2:] - second_NM4[..., :2]).clamp(min=0).prod(-1))[:, None, :]
    return inter / (area + other - inter).clamp(min=1e-9)
