"""Images as patches, and which of them are shown.

Shapes: B images, P patches of p×p pixels, N visible, C channels, S pixels a side.
"""

import torch
from torch import Tensor


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
    rows = []
    for seed in seed_B.tolist():
        generator = torch.Generator().manual_seed((seed + 0x9E3779B97F4A7C15 * (view + 1)) % 2**63)
        rows.append(torch.randperm(patches, generator=generator)[: max(1, kept)].sort().values)
    return torch.stack(rows)
