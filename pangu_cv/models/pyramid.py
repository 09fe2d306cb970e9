"""A feature pyramid from any backbone: every level mixes all grids, brought to its own size.

For a plain ViT, whose grids are of one size, this is ViTDet's simple pyramid (arXiv 2203.16527) with resizing in place
of deconvolutions, and with the pixels' own edges at the finest level, which patches have mixed. Shapes: B images, S
pixels a side, D channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

STRIDES = (8, 16, 32)
"""Pixels of the network's input per place, level by level."""
_EDGES = (16, 32, 48)


class Pyramid(nn.Module):
    """Normalised images and grids to one float32[B,width,S/stride,S/stride] per stride."""

    def __init__(self, *, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(
            [nn.Sequential(nn.GroupNorm(1, c, affine=False), nn.Conv2d(c, width, 1)) for c in channels]
        )
        self.edges = nn.Sequential(*[block(a, b, stride=2) for a, b in zip((3, *_EDGES), _EDGES, strict=False)])
        self.join = nn.Conv2d(_EDGES[-1], width, 1)
        self.smooth = nn.ModuleList([block(width, width) for _ in STRIDES])

    def forward(self, images_B3SS: Tensor, grids_BDhw: Sequence[Tensor]) -> list[Tensor]:
        """Finest level first."""
        side = images_B3SS.shape[-1]
        projected = [layer(grid) for layer, grid in zip(self.project, grids_BDhw, strict=True)]
        levels = []
        for stride, smooth in zip(STRIDES, self.smooth, strict=True):
            mixed = torch.stack([resized(grid, side // stride) for grid in projected]).sum(0)
            if stride == STRIDES[0]:
                mixed = mixed + self.join(self.edges(images_B3SS))
            levels.append(smooth(mixed))
        return levels


def resized(grid_BDhw: Tensor, side: int) -> Tensor:
    """The grid at another size; the mean over what falls together where it shrinks."""
    if grid_BDhw.shape[-1] > side:
        return nn.functional.adaptive_avg_pool2d(grid_BDhw, side)
    return nn.functional.interpolate(grid_BDhw, size=(side, side), mode="bilinear", align_corners=False)


def block(inputs: int, outputs: int, *, stride: int = 1) -> nn.Module:
    """Convolution, group norm (batches are small) and GELU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(max(1, outputs // 8), outputs),
        nn.GELU(),
    )
