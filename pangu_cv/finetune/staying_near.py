"""Two ways of not going far from the pretrained weights: a spring while training, and going part of the way back after.

L2-SP (arXiv 1802.01483) pulls every learning weight of the backbone towards its start; weight interpolation (WiSE-FT,
2109.01903) ends between start and trained, which often holds better on images unlike the labelled ones.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pangu_cv.models.adapt import Group


class Start:
    """Weights that learn as they were: of a backbone, or of a backbone and its head."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._pairs = [(p, p.detach().clone()) for group in groups for p in group.parameters]

    def penalty(self) -> Tensor:
        """Half the squared distance from the start."""
        return 0.5 * torch.stack([(p - start.to(p.device)).square().sum() for p, start in self._pairs]).sum()

    @torch.no_grad()
    def interpolate(self, share: float) -> None:
        """Leave the weights at ``share`` of the way from their start."""
        for parameter, start in self._pairs:
            parameter.copy_(torch.lerp(start.to(parameter.device), parameter, share))
