"""Frozen networks as teachers: what several of them see in a view, one network learns to see.

Agglomerative models as AM-RADIO (arXiv 2312.06709) and Theia (2407.20179), with Proteus's levels (2407.10366): of each
teacher the grids of its levels and what a task would pool from them. Each number is standardised by how it varies over
all images, so that no teacher and no channel speaks louder than another: the baseline that PHI-S (2410.01680) compares
its rotation with one common scale to. Heads are linear, so that what a linear head can read from a teacher it can read
from the pupil.

Shapes: B images, D numbers, h×w a grid, N patches of the pupil.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from pangu_cv.models.backbone import Backbone, BackboneConfig
from pangu_cv.pretrain.across import process_mean
from pangu_cv.pretrain.encoder import Encoded, Encoder, statistics
from pangu_cv.settings import Settings


class TeacherConfig(Settings):
    """One frozen network."""

    backbone: BackboneConfig
    """Which, with whose weights, and which of its depths are taught."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Against the other teachers."""


class Standard(nn.Module):
    """Standardises numbers by mean and variance over what all processes saw so far, the last 1000 batches most."""

    mean_D: Tensor
    variance_D: Tensor
    batches: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean_D", torch.zeros(width))
        self.register_buffer("variance_D", torch.ones(width))
        self.register_buffer("batches", torch.zeros(()))

    @torch.no_grad()
    def forward(self, rows_ND: Tensor) -> Tensor:
        """float32[N,D]; in training the rows are counted in first."""
        rows_ND = rows_ND.float()
        if self.training:
            self.batches += 1
            new = 1 / self.batches.clamp(max=1000)
            mean = process_mean(rows_ND.mean(0))
            away = mean - self.mean_D
            # the variance between batches counts too: a batch comes from one dataset
            spread = process_mean((rows_ND - mean).square().mean(0)) + (1 - new) * away.square()
            self.mean_D += new * away
            self.variance_D += new * (spread - self.variance_D)
        return (rows_ND - self.mean_D) / (self.variance_D + 1e-6).sqrt()


class Teacher(nn.Module):
    """A frozen network, its scales, and the pupil's heads towards it."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: TeacherConfig, pupil: Encoder, *, side_px: int) -> None:
        super().__init__()
        backbone = config.backbone.build()
        self.network: Backbone = backbone
        self.weight, self.grid = config.weight, side_px // pupil.patch_px
        seen = backbone.probe(side_px)
        grids = [grid.shape[1] for grid in seen.grids_BDhw]
        pooled = [*(2 * width for width in grids), seen.vector_BD.shape[1]]
        widths = pupil.widths
        at = [round(place * (len(widths) - 1) / (len(pooled) - 1)) for place in range(len(pooled))]
        self.taken_from = at  # shallow levels are taught from shallow ones
        self.pooled_scales = nn.ModuleList([Standard(width) for width in pooled])
        self.pooled_heads = nn.ModuleList([nn.Linear(widths[i], width) for i, width in zip(at, pooled, strict=True)])
        self.grid_scale, self.grid_head = Standard(grids[-1]), nn.Linear(pupil.features, grids[-1])
        self.register_buffer("mean", 255 * torch.tensor(backbone.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(backbone.std).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "Teacher":
        """The network itself stays as it is."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, encoded: Encoded, pixels_BSS3: Tensor, keep_BN: Tensor | None) -> Tensor:
        """The share of what the teacher says of uint8 pixels that the pupil misses; 1 when it knows nothing."""
        with torch.no_grad():
            seen = self.network((pixels_BSS3.permute(0, 3, 1, 2).float() - self.mean) / self.std)
        said = [statistics(grid.flatten(2).transpose(1, 2)) for grid in seen.grids_BDhw] + [seen.vector_BD]
        parts = [
            nn.functional.mse_loss(head(encoded.pooled[i]).float(), scale(aim))
            for i, head, scale, aim in zip(self.taken_from, self.pooled_heads, self.pooled_scales, said, strict=True)
        ]
        return (torch.stack(parts).mean() + self._patches(encoded, seen.grids_BDhw[-1], keep_BN)) / 2

    def _patches(self, encoded: Encoded, grid_BDhw: Tensor, keep_BN: Tensor | None) -> Tensor:
        """Patch by patch, the teacher's grid brought to the pupil's."""
        size = (self.grid, self.grid)
        grid = nn.functional.interpolate(grid_BDhw.float(), size, mode="bilinear", antialias=True)
        aim_BPD = self.grid_scale(grid.flatten(2).transpose(1, 2).flatten(0, 1)).unflatten(0, (len(grid), -1))
        if keep_BN is not None:
            aim_BPD = aim_BPD.gather(1, keep_BN[..., None].expand(-1, -1, aim_BPD.shape[2]))
        loss: Tensor = nn.functional.mse_loss(self.grid_head(encoded.tokens_BND).float(), aim_BPD)
        return loss
