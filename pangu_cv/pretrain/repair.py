"""The decoder that repairs: hidden patches are painted in, visible ones freed of noise, blur and compression.

CAN (arXiv 2210.16870) with one change: a few convolutions see the damaged pixels beside the tokens, so that a token
need not carry every pixel to say what is wrong with them.

Shapes: B images, P patches of p×p pixels, N visible, W decoder width, S pixels a side.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from pangu_cv.pretrain.across import process_mean
from pangu_cv.pretrain.patches import from_patches, to_patches, visible_pixels
from pangu_cv.settings import Settings

_CHANNELS = 16
_LEAST_HARM = 1e-3  # of normalised pixels: keeps the share bounded in a batch without damage


class RepairConfig(Settings):
    """The restoration term."""

    weight: Annotated[float, Field(ge=0)] = 1.0
    """Its weight in the sum (λ_r); 0 leaves the decoder out."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of a batch's images that are repaired: beside a small encoder the decoder is dear."""
    width: Annotated[int, Field(ge=32)] = 192
    """Width of the decoder."""
    depth: Annotated[int, Field(ge=1, le=12)] = 2
    """Its blocks."""
    lr: Annotated[float, Field(gt=0)] = 1e-2
    """Highest learning rate of the convolutions on pixels, which begin by changing nothing: at the blocks' rate they
    would take thousands of steps."""

    def build(self, *, features: int, patch_px: int, side_px: int) -> "RepairDecoder":
        """A decoder for tokens of ``features`` numbers and views of ``side_px``."""
        return RepairDecoder(self, features=features, patch_px=patch_px, side_px=side_px)


@dataclass(frozen=True)
class Repaired:
    """``patches_BPC``: pixels of all patches, each normalised by itself; ``image_B3SS``: the input less its damage."""

    patches_BPC: Tensor
    image_B3SS: Tensor


@dataclass(frozen=True)
class RepairLosses:
    """Error on hidden patches (of normalised pixels) and the share of the damage that is left on visible ones."""

    hidden: Tensor
    visible: Tensor


class RepairDecoder(nn.Module):
    """Tokens of the visible patches and the damaged image to the image as it was."""

    position_1PW: Tensor

    def __init__(self, config: RepairConfig, *, features: int, patch_px: int, side_px: int) -> None:
        super().__init__()
        self.patch_px, self.grid, self.refine_lr = patch_px, side_px // patch_px, config.lr
        width = config.width
        self.embed = nn.Linear(features, width)
        self.hidden_token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.Sequential(*[Block(width, num_heads=max(1, width // 64)) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(width)
        self.to_patch = nn.Linear(width, patch_px * patch_px * 3)
        self.to_context = nn.Linear(width, patch_px * patch_px * _CHANNELS // 4)
        last = nn.Conv2d(_CHANNELS, 3, 3, padding=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)  # it begins by changing nothing
        self.refine = nn.Sequential(
            nn.Conv2d(3 + _CHANNELS // 4, _CHANNELS, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1),
            nn.GELU(),
            last,
        )
        nn.init.normal_(self.hidden_token, std=0.02)
        self.register_buffer("position_1PW", self._positions(self.grid, width), persistent=False)

    @staticmethod
    def _positions(grid: int, width: int) -> Tensor:
        positions: Tensor = build_sincos2d_pos_embed([grid, grid], dim=width)[None].float()
        return positions

    def forward(self, tokens_BND: Tensor, keep_BN: Tensor | None, damaged_B3SS: Tensor) -> Repaired:
        """``keep_BN`` as in ``Encoder``; None where all patches are visible."""
        side = damaged_B3SS.shape[-1] // self.patch_px
        x = self.embed(tokens_BND)
        if keep_BN is not None:
            places = keep_BN[..., None].expand(-1, -1, x.shape[2])
            x = self.hidden_token.expand(len(x), side * side, -1).to(x.dtype).scatter(1, places, x)
            damaged_B3SS = damaged_B3SS * visible_pixels(keep_BN, damaged_B3SS, self.patch_px)
        position = self.position_1PW if side == self.grid else self._positions(side, x.shape[2]).to(x)
        x = self.norm(self.blocks(x + position))
        context = from_patches(self.to_context(x), self.patch_px)
        image = damaged_B3SS + self.refine(torch.cat([damaged_B3SS, context.to(damaged_B3SS.dtype)], 1))
        return Repaired(self.to_patch(x), image)

    def losses(
        self, repaired: Repaired, damaged_B3SS: Tensor, clean_B3SS: Tensor, keep_BN: Tensor | None
    ) -> RepairLosses:
        """Squared errors against the undamaged input; both are near 1 for a decoder that does nothing."""
        clean = to_patches(clean_B3SS.float(), self.patch_px)
        damaged = to_patches(damaged_B3SS.float(), self.patch_px)
        found = to_patches(repaired.image_B3SS.float(), self.patch_px)
        is_visible = torch.ones(clean.shape[:2], device=clean.device)
        if keep_BN is not None:
            is_visible = torch.zeros_like(is_visible).scatter_(1, keep_BN, 1.0)
        harm = ((damaged - clean).square().mean(2) * is_visible).sum()
        left = ((found - clean).square().mean(2) * is_visible).sum()
        visible = left / (process_mean(harm) + _LEAST_HARM * process_mean(is_visible.sum()))
        deviation = (clean.var(2, keepdim=True) + 1e-4).sqrt()  # a flat patch has nothing to guess
        normalised = (clean - clean.mean(2, keepdim=True)) / deviation
        error = (repaired.patches_BPC.float() - normalised).square().mean(2) * (1 - is_visible)
        return RepairLosses(error.sum() / (1 - is_visible).sum().clamp(min=1), visible)
