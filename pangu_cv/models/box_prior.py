"""How a box head starts: class prototypes in closed form, and the sizes of the labelled boxes.

The prototypes are a ridge regression from a place's features to the class whose box it lies in the middle of, all other
places of the same images being the background: linear discriminants with a shared covariance, as the classifier's head.
Shapes: B images, C classes, D features, K boxes of an image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pangu_cv.models.box_head import Prototypes, centres, stacked
from pangu_cv.models.pyramid import STRIDES

PARTS = 4
"""Parts of the labelled images; in training an image sees the prototypes of the others, as a new image will (ours)."""
_MIDDLE = 0.6  # of a box's width and height
_RIDGE = 0.01  # of a standardised feature's variance
_LIMIT = 2.0  # logits between the mean of all places and that of a class at most: few boxes promise too much


class PriorFit:
    """Sums over the labelled images, one at a time; memory does not grow with them."""

    def __init__(self, *, features: int, classes: int) -> None:
        self.classes, self.count = classes, 0
        self.sum_D = torch.zeros(features, dtype=torch.float64)
        self.square_DD = torch.zeros(features, features, dtype=torch.float64)
        self.cross_DC = torch.zeros(features, classes, dtype=torch.float64)
        self.labels_C = torch.zeros(classes, dtype=torch.float64)

    def add(self, grids_1Dhw: Sequence[Tensor], boxes_K4: Tensor, label_K: Tensor, *, side_px: int) -> None:
        """One image with its boxes in pixels of the network's input."""
        features = stacked(grids_1Dhw)[0]
        x = features.flatten(1).T.double()
        y = _shown(boxes_K4, label_K, side=features.shape[-1], side_px=side_px, classes=self.classes).double()
        self.count += len(x)
        self.sum_D += x.sum(0)
        self.square_DD += x.T @ x
        self.cross_DC += x.T @ y
        self.labels_C += y.sum(0)

    @classmethod
    def joined(cls, parts: Sequence["PriorFit"], *, features: int, classes: int) -> "PriorFit":
        """What all parts saw together."""
        whole = cls(features=features, classes=classes)
        for part in parts:
            whole.count += part.count
            whole.sum_D += part.sum_D
            whole.square_DD += part.square_DD
            whole.cross_DC += part.cross_DC
            whole.labels_C += part.labels_C
        return whole

    def solve(self) -> Prototypes:
        """The prototypes; of a class that was not seen they say nothing."""
        count = max(self.count, 1)
        mean = self.sum_D / count
        covariance = self.square_DD / count - torch.outer(mean, mean)
        scale = covariance.diagonal().clamp(min=1e-12).sqrt()
        correlation = covariance / torch.outer(scale, scale)
        # Between a feature and a class: how far the class's mean is from the mean of all, in deviations.
        shift_DC = (self.cross_DC / self.labels_C.clamp(min=1) - mean[:, None]) / scale[:, None]
        weight_DC = torch.linalg.solve(correlation + _RIDGE * torch.eye(len(mean), dtype=mean.dtype), shift_DC)
        # A linear discriminant's logit rises by the squared Mahalanobis distance from the one mean to the other.
        distance_C = (shift_DC * weight_DC).sum(0).clamp(min=1e-9)
        weight_DC = torch.where(self.labels_C > 0, weight_DC * (_LIMIT / distance_C).clamp(max=1), 0.0)
        bias_C = -(weight_DC * shift_DC).sum(0) / 2
        return Prototypes(*(part.float() for part in (weight_DC.T, bias_C, mean, scale)))


def _shown(boxes_K4: Tensor, label_K: Tensor, *, side: int, side_px: int, classes: int) -> Tensor:
    """Whether a place lies in the middle of a box of a class, float32[side²,C]; a small box has its nearest place."""
    places = centres(side, 1, boxes_K4.device) * (side_px / side)
    shown = torch.zeros(side * side, classes)
    for box, label in zip(boxes_K4, label_K, strict=True):
        middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * _MIDDLE
        inside = ((places - middle).abs() <= half).all(1)
        if not inside.any():
            inside = torch.zeros_like(inside)
            inside[(places - middle).square().sum(1).argmin()] = True
        shown[inside, label] = 1.0
    return shown


def level_sizes(boxes_K4: Tensor) -> Tensor:
    """Geometric mean width and height of the boxes of each level, float32[levels,2]; 6 strides where there are none."""
    size = boxes_K4[:, 2:] - boxes_K4[:, :2]
    level = level_of(boxes_K4)
    default = [torch.full((2,), 6.0 * stride) for stride in STRIDES]
    return torch.stack(
        [size[level == n].log().mean(0).exp() if (level == n).any() else default[n] for n in range(len(STRIDES))]
    )


def level_of(boxes_K4: Tensor) -> Tensor:
    """The level whose places suit a box's size, int64[K]: about eight places across."""
    side = (boxes_K4[:, 2:] - boxes_K4[:, :2]).clamp(min=1).prod(1).sqrt()
    return (side / (8 * STRIDES[0])).log2().round().clamp(0, len(STRIDES) - 1).long()
