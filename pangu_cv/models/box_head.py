"""A dense box head for few labels: at every place a score per class and the distances to the four sides.

What a place shows is told by three parts that add up: prototypes of the classes, solved in closed form from the few
boxes on the backbone's own features, which start the classifier; the mean size of the labelled boxes, which starts the
distances; and small convolutions over the pyramid, which learn what is left of both (FCOS, arXiv 1904.01355, without
its centre-ness; the score learns how well its box fits, as in TOOD, 2108.07755). Shapes: B images, P places of all
levels, C classes, D features, S pixels a side.
"""

import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from pangu_cv.models.pyramid import STRIDES, Pyramid, block, resized
from pangu_cv.settings import Settings

_RARE = 0.01  # the share of places that show a class, to begin with


class BoxHeadConfig(Settings):
    """Its size."""

    width: Annotated[int, Field(ge=16, le=512)] = 64
    """Channels of the pyramid."""
    blocks: Annotated[int, Field(ge=1, le=6)] = 2
    """Convolutions of each branch."""

    def build(self, *, channels: Sequence[int], classes: int) -> "BoxHead":
        """A head on grids of these channels."""
        return BoxHead(self, channels=channels, classes=classes)


class Dense(NamedTuple):
    """Logits float32[B,P,C] and boxes float32[B,P,4] (xyxy in pixels of the network's input), level after level."""

    logits_BPC: Tensor
    boxes_BP4: Tensor


class Prototypes(NamedTuple):
    """Of the classes: weights float32[C,D] and bias [C] on features less ``mean_D`` over ``scale_D``."""

    weight_CD: Tensor
    bias_C: Tensor
    mean_D: Tensor
    scale_D: Tensor

    def scores(self, grids_BDhw: Sequence[Tensor]) -> Tensor:
        """Their logits float32[B,C,h,w] on the features as they are."""
        normal = (stacked(grids_BDhw) - self.mean_D[:, None, None]) / self.scale_D[:, None, None]
        return nn.functional.conv2d(normal, self.weight_CD[:, :, None, None], self.bias_C)

    def to(self, device: torch.device) -> "Prototypes":
        """The same elsewhere."""
        return Prototypes(*(part.to(device) for part in self))


class BoxHead(nn.Module):
    """Normalised images and grids to ``Dense``."""

    prior_weight: Tensor
    prior_bias: Tensor
    prior_mean: Tensor
    prior_scale: Tensor
    size_px: Tensor

    def __init__(self, config: BoxHeadConfig, *, channels: Sequence[int], classes: int) -> None:
        super().__init__()
        width = config.width
        self.pyramid = Pyramid(channels=channels, width=width)
        self.score_tower = nn.Sequential(*[block(width, width) for _ in range(config.blocks)])
        self.side_tower = nn.Sequential(*[block(width, width) for _ in range(config.blocks)])
        self.score = nn.Conv2d(width, classes, 3, padding=1)
        self.sides = nn.Conv2d(width, 4, 3, padding=1)
        for layer in (self.score, self.sides):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.score.bias, -math.log(1 / _RARE - 1))  # type: ignore[arg-type]
        features = sum(channels)
        self.prior_gain = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("prior_weight", torch.zeros(classes, features))
        self.register_buffer("prior_bias", torch.zeros(classes))
        self.register_buffer("prior_mean", torch.zeros(features))
        self.register_buffer("prior_scale", torch.ones(features))
        self.register_buffer("size_px", torch.tensor([[6.0 * stride, 6.0 * stride] for stride in STRIDES]))
        self.to(memory_format=torch.channels_last)

    def forward(self, images_B3SS: Tensor, grids_BDhw: Sequence[Tensor], prior_BChw: Tensor | None = None) -> Dense:
        """Shapes as the class says; ``prior_BChw`` stands in for the prototypes' scores (in training)."""
        images = images_B3SS.contiguous(memory_format=torch.channels_last)
        prior_BChw = self.prototypes.scores(grids_BDhw) if prior_BChw is None else prior_BChw
        logits, boxes = [], []
        for number, level in enumerate(self.pyramid(images, grids_BDhw)):
            side = level.shape[-1]
            score = self.score(self.score_tower(level)) + self.prior_gain * resized(prior_BChw, side)
            distances = self.sides(self.side_tower(level)).float().clamp(-4, 4).exp()
            logits.append(score.float().flatten(2).transpose(1, 2))
            boxes.append(self._boxes(distances, STRIDES[number], self.size_px[number]))
        return Dense(torch.cat(logits, 1), torch.cat(boxes, 1))

    @property
    def prototypes(self) -> Prototypes:
        """What the head starts from, and keeps."""
        return Prototypes(self.prior_weight, self.prior_bias, self.prior_mean, self.prior_scale)

    def install(self, prototypes: Prototypes) -> None:
        """Put prototypes in."""
        for own, new in zip(self.prototypes, prototypes, strict=True):
            own.copy_(new)

    def _boxes(self, distances_B4hw: Tensor, stride: int, size_px: Tensor) -> Tensor:
        """Boxes around each place: its distances are factors of half the level's mean width and height."""
        half = torch.stack([size_px[0], size_px[1], size_px[0], size_px[1]]) / 2
        out = distances_B4hw * half[:, None, None]
        places = centres(distances_B4hw.shape[-1], stride, out.device)
        x, y = places[:, 0], places[:, 1]
        left, top, right, bottom = out.flatten(2).unbind(1)
        return torch.stack([x - left, y - top, x + right, y + bottom], 2)


def stacked(grids_BDhw: Sequence[Tensor]) -> Tensor:
    """All grids at the size of the second coarsest (a ViT's have one size), side by side: float32[B,D,h,w]."""
    sizes = sorted({grid.shape[-1] for grid in grids_BDhw})
    side = sizes[min(1, len(sizes) - 1)]
    return torch.cat([resized(grid.float(), side) for grid in grids_BDhw], 1)


def centres(side: int, stride: int, device: torch.device) -> Tensor:
    """Middles of the places of a level in pixels, row by row: float32[side²,2]."""
    at = (torch.arange(side, device=device) + 0.5) * stride
    y, x = torch.meshgrid(at, at, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)
