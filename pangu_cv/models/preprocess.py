"""The one resize: raw uint8 pixels of any size to the network's input, inside the graph.

Shapes: N images, H×W pixels as given, S×S pixels as the network sees them.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pangu_cv.settings import Settings


class PreprocessConfig(Settings):
    """How pixels become the network's input."""

    image_px: Annotated[int, Field(ge=16, le=4096)] = 224
    """Side of the square the image is resized to; the aspect ratio is not kept, so that nothing is cut off."""
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    """Kernel of the antialiased resize."""

    def build(self, *, mean: tuple[float, ...], std: tuple[float, ...]) -> "Preprocess":
        """The module for a backbone that expects channels of this mean and deviation (of pixels in 0..1)."""
        return Preprocess(self, mean=mean, std=std)


class Preprocess(nn.Module):
    """uint8[N,H,W,3] RGB to float32[N,3,S,S]: float, antialiased resize, clamp, normalise."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: PreprocessConfig, *, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Shapes as the class says; cubic overshoot is clamped back to 0..255 before normalising."""
        side = self.config.image_px
        pixels = nn.functional.interpolate(
            image.permute(0, 3, 1, 2).float(),
            size=(side, side),
            mode=self.config.interpolation,
            antialias=True,
            align_corners=False,
        )
        return (pixels.clamp(0, 255) - self.mean) / self.std
