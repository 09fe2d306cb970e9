"""What every objective has: the encoder, the pixels' scale, and a way to be called as a whole.

Shapes: B images, S pixels a side.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from pangu_cv.models.backbone import Backbone
from pangu_cv.pretrain.encoder import Encoder

T = TypeVar("T")


class BaseObjective(nn.Module):
    """An encoder to be trained; ``forward(batch)`` of the objectives gives losses by name."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, *, side_px: int, checkpointing: bool) -> None:
        super().__init__()
        self.encoder = Encoder(backbone, checkpointing=checkpointing)
        self.patches = (side_px // self.encoder.patch_px) ** 2
        self.register_buffer("mean", 255 * torch.tensor(backbone.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(backbone.std).view(1, 3, 1, 1), persistent=False)

    def normal(self, pixels_BSS3: Tensor) -> Tensor:
        """Pixels 0-255 as the backbone wants them, float32[B,3,S,S]."""
        images: Tensor = (pixels_BSS3.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return images

    def as_a_whole(self, call: Callable[[], T]) -> T:
        """``call()``, with all weights in reach where processes share them: FSDP gathers them around this method."""
        return call()
