"""Images as patches, and which of them are shown.

Shapes: B images, P patches of p×p pixels, N visible, C channels, S pixels a side.
"""

import torch
from torch import Tensor

_GOLDEN = -0x61C8864680B583EB  # 2^64 over the golden ratio, as a signed number (SplitMix64)


def to_patches(images_BCSS: Tensor, patch_px: int) -> Tensor:
    """Images to patches, [B,P,p·p·C]."""
    b, c, side, _ = images_BCSS.shape
    grid = side // patch_px
    x = images_BCSS.reshape(b, c, grid, patch_px, grid, patch_px)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(b, grid * grid, patch_px * patch_px * c)


def from_patches(patches_BPC: Tensor, patch_px: int) -> Tensor:
    """Patches back to images, [B,C,S,S]."""
    b, count, numbers = patches_BPC.shape
    grid, c = round(count**0.5), numbers // patch_px**2
    x = patches_BPC.reshape(b, grid, grid, patch_px, patch_px, c)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(b, c, grid * patch_px, grid * patch_px)


def visible_pixels(keep_BN: Tensor, images_B3SS: Tensor, patch_px: int) -> Tensor:
    """1 where a pixel is in a visible patch, else 0: float[B,1,S,S]."""
    side = images_B3SS.shape[-1] // patch_px
    flat = images_B3SS.new_zeros(len(keep_BN), side * side).scatter_(1, keep_BN, 1.0)
    return flat.view(-1, 1, side, side).repeat_interleave(patch_px, 2).repeat_interleave(patch_px, 3)


def draw_visible(seed_B: Tensor, *, patches: int, hidden: float, view: int) -> Tensor | None:
    """Visible patches of each image, int64[B,N] rising, drawn from the image's own seed; None where none is hidden."""
    kept = patches - round(hidden * patches)
    if kept == patches:
        return None
    places = torch.arange(1, patches + 1, device=seed_B.device) * _GOLDEN
    rank_BP = _mixed(_mixed(2 * seed_B[:, None] + view) + places)
    return rank_BP.argsort(1)[:, : max(1, kept)].sort(1).values


def _mixed(bits: Tensor) -> Tensor:
    """Each int64 to one that looks like chance (SplitMix64's last steps), on any device and without a loop."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        bits = (bits ^ _shifted(bits, shift)) * factor
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, count: int) -> Tensor:
    """Shift to the right as if without a sign."""
    return (bits >> count) & ((1 << (64 - count)) - 1)
