"""A head that decides every pixel: the backbone's grids give the meaning, a few convolutions on the pixels the edges.

A ViT's grid has one place per 16 pixels, and a crack is three pixels wide: skip paths from the image itself bring back
what the patches have mixed (U-Net, arXiv 1505.04597). Group norm, since batches are small. Shapes: B images, S pixels a
side, D channels of a grid, C classes.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from pangu_cv.models.pyramid import block, resized
from pangu_cv.settings import Settings

_SKIPS = (16, 24, 32)  # channels of the pixels' own features at 1/2, 1/4 and 1/8 of the side


class PixelHeadConfig(Settings):
    """Its size."""

    width: Annotated[int, Field(ge=16, le=512)] = 64
    """Channels at an eighth of the side; half of them at each doubling."""
    skip: bool = True
    """Whether edges come from the pixels too; without, the head is small, quick and coarse."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the grids' channels dropped in training."""

    def build(self, *, channels: Sequence[int], classes: int) -> "PixelHead":
        """A head on grids of these channels."""
        return PixelHead(self, channels=channels, classes=classes)


class PixelHead(nn.Module):
    """Normalised images and grids to logits float32[B,C,S/2,S/2]."""

    def __init__(self, config: PixelHeadConfig, *, channels: Sequence[int], classes: int) -> None:
        super().__init__()
        width = config.width
        self.project = nn.ModuleList(
            [nn.Sequential(nn.GroupNorm(1, c, affine=False), nn.Conv2d(c, width, 1)) for c in channels]
        )
        self.drop = nn.Dropout2d(config.dropout)
        skips = _SKIPS if config.skip else (0, 0, 0)
        self.stem = nn.ModuleList()
        if config.skip:
            self.stem = nn.ModuleList([block(a, b, stride=2) for a, b in zip((3, *skips), skips, strict=False)])
        self.eighth = block(width + skips[2], width)
        self.quarter = block(width + skips[1], width // 2)
        self.fine = block(width // 2 + skips[0], width // 4)
        self.classify = nn.Conv2d(width // 4, classes, 1)
        nn.init.zeros_(self.classify.weight)
        self.to(memory_format=torch.channels_last)  # a third faster on a CPU

    def forward(self, images_B3SS: Tensor, grids_BDhw: Sequence[Tensor]) -> Tensor:
        """Shapes as the class says."""
        skips: list[Tensor] = []
        x = images_B3SS.contiguous(memory_format=torch.channels_last)
        for layer in self.stem:
            x = layer(x)
            skips.append(x)
        side = images_B3SS.shape[-1]
        mixed = [resized(layer(grid), side // 8) for layer, grid in zip(self.project, grids_BDhw, strict=True)]
        x = self.drop(torch.stack(mixed).sum(0))
        x = self.eighth(torch.cat([x, *skips[2:]], 1))
        x = self.quarter(torch.cat([resized(x, side // 4), *skips[1:2]], 1))
        x = self.fine(torch.cat([resized(x, side // 2), *skips[:1]], 1))
        logits: Tensor = self.classify(x)
        return logits
