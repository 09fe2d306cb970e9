"""A linear few-shot head for any number of classes at once: one ridge regression per class, each with its own sigmoid.

The regressions share their matrix, so that all of them, and all their left-out predictions, cost one factorisation.

Shapes: N labelled images, V views of each, D features, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pangu_cv.models.platt import FALLBACK, platt_per_class
from pangu_cv.models.ridge_map import LearnableMap, RidgeConfig, RidgeMap


class TagHeadConfig(RidgeConfig):
    """Ridge regression to 1 where a class is present and 0 where it is not."""

    def build(self, *, groups: Sequence[int], classes: int) -> "TagHead":
        """An unfitted head for features in ``groups``: sizes of the parts, one per level and statistic."""
        return TagHead(self, groups=groups, classes=classes)


class TagHead(RidgeMap):
    """The map's outputs through a slope and an offset per class."""

    slope_C: Tensor
    offset_C: Tensor

    def __init__(self, config: TagHeadConfig, *, groups: Sequence[int], classes: int) -> None:
        super().__init__(config, groups=groups, outputs=classes)
        self.register_buffer("slope_C", torch.full((classes,), FALLBACK.slope))
        self.register_buffer("offset_C", torch.full((classes,), FALLBACK.offset))

    def forward(self, features_BVD: Tensor) -> Tensor:
        """Logits float32[B,C] whose sigmoid is calibrated."""
        return self.mapped(features_BVD) * self.slope_C + self.offset_C

    def learnable(self) -> LearnableMap:
        """Logits that learn; call ``settle`` afterwards."""
        return LearnableMap(self, slope_C=self.slope_C, offset_C=self.offset_C)

    def settle(self, learnt: LearnableMap) -> None:
        """Take what was learnt."""
        learnt.settle()
        self.slope_C.fill_(1.0)
        self.offset_C.fill_(0.0)

    @torch.no_grad()
    def calibrate(self, left_out_NC: Tensor, present_NC: Tensor) -> None:
        """Set the sigmoids from what ``solve`` says of images that were left out, and the truth as bool."""
        sigmoids = platt_per_class(left_out_NC, present_NC)
        self.slope_C.copy_(torch.tensor([one.slope for one in sigmoids]))
        self.offset_C.copy_(torch.tensor([one.offset for one in sigmoids]))
