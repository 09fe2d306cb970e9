"""A timm network read at several depths, on all patches or on the visible ones only.

Shapes: B images, N patches kept, P patches in all, D features.
"""

from dataclasses import dataclass
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pangu_cv.models.backbone import Backbone
from pangu_cv.pretrain.patches import to_patches, visible_pixels


@dataclass(frozen=True)
class Encoded:
    """``pooled`` has a vector per level, as the tasks read it: mean and deviation of the patches, [B,2D], and at the
    last level class token and mean after the final norm. ``tokens_BND`` are the last level's patches."""

    pooled: tuple[Tensor, ...]
    tokens_BND: Tensor
    class_token_BD: Tensor | None


class Encoder(nn.Module):
    """Gradients flow here, unlike in ``Backbone``, whose network and levels it shares.

    A plain ViT computes the visible patches only (MAE, arXiv 2111.06377); of any other network the hidden patches are
    painted grey in the input (SimMIM, arXiv 2111.09886), which costs more but asks nothing of it.
    """

    def __init__(self, backbone: Backbone, *, checkpointing: bool = False) -> None:
        super().__init__()
        self.network: Any = backbone.network.requires_grad_(True)
        self.indices = backbone.indices
        self.has_class_token = int(getattr(self.network, "num_prefix_tokens", 0)) > 0
        self.drops_patches = type(self.network) is VisionTransformer
        self.keep_activations(not checkpointing)
        if not torch.cuda.is_available():
            self.attend_for_cpu()

    def keep_activations(self, keep: bool) -> None:
        """For the way back; otherwise they are computed anew there, block by block."""
        self.checkpointing = not keep
        if not self.drops_patches:
            self.network.set_grad_checkpointing(not keep)

    def attend_for_cpu(self) -> None:
        """torch 2.15's fused attention takes half of a ViT's training step on a CPU, nearly all of it going back."""
        for block in getattr(self.network, "blocks", ()):
            if hasattr(getattr(block, "attn", None), "fused_attn"):
                block.attn.fused_attn = False

    @property
    def patch_px(self) -> int:
        """Side of a patch, or of what a cell of the last grid stands for in a CNN."""
        return int(self.network.feature_info[-1]["reduction"])

    @property
    def features(self) -> int:
        """Numbers of a token of the last level."""
        return int(self.network.feature_info[self.indices[-1]]["num_chs"])

    @property
    def widths(self) -> list[int]:
        """Numbers of each level's pooled vector."""
        shallow = [2 * int(self.network.feature_info[index]["num_chs"]) for index in self.indices[:-1]]
        if self.has_class_token:
            return [*shallow, 2 * self.features]
        return [*shallow, int(getattr(self.network, "head_hidden_size", self.features))]

    def forward(self, images_B3SS: Tensor, keep_BN: Tensor | None = None) -> Encoded:
        """``keep_BN`` int64 are the visible patches in rising order; None shows all."""
        if self.drops_patches:
            return self._sparse(images_B3SS, keep_BN)
        return self._dense(images_B3SS, keep_BN)

    def _sparse(self, images_B3SS: Tensor, keep_BN: Tensor | None) -> Encoded:
        net = self.network
        prefix = int(net.num_prefix_tokens)
        x = self._embedded(images_B3SS, keep_BN)
        x = _in_short(net.norm_pre(x))
        pooled = []
        for number, block in enumerate(net.blocks):
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointing and self.training else block(x)
            if number in self.indices[:-1]:
                pooled.append(statistics(x[:, prefix:]))
        x = net.norm(x)
        return self._encoded(pooled, x[:, prefix:], x[:, 0] if prefix else None)

    def _embedded(self, images_B3SS: Tensor, keep_BN: Tensor | None) -> Tensor:
        """Prefix tokens and the visible patches with their positions."""
        net = self.network
        if keep_BN is None:
            embedded: Tensor = net._pos_embed(net.patch_embed(images_B3SS))
            return embedded
        prefix, side = int(net.num_prefix_tokens), images_B3SS.shape[-1] // self.patch_px
        weight = net.patch_embed.proj.weight
        pixels = to_patches(images_B3SS, self.patch_px).gather(1, _over(keep_BN, 3 * self.patch_px**2))
        visible = nn.functional.linear(pixels, weight.permute(0, 2, 3, 1).flatten(1), net.patch_embed.proj.bias)
        # Positions of the whole grid, found by embedding nothing: timm adds prefix tokens and resizes the table there.
        grid = (side, side) if net.dynamic_img_size else (side * side,)
        places = net._pos_embed(visible.new_zeros(1, *grid, visible.shape[2]))
        visible = net.patch_embed.norm(visible) + places[:, prefix:].expand(len(visible), -1, -1).gather(
            1, _over(keep_BN, visible.shape[2])
        )
        return torch.cat([places[:, :prefix].expand(len(visible), -1, -1), visible], 1)

    def _dense(self, images_B3SS: Tensor, keep_BN: Tensor | None) -> Encoded:
        if keep_BN is not None:
            images_B3SS = images_B3SS * visible_pixels(keep_BN, images_B3SS, self.patch_px)
        final, grids = self.network.forward_intermediates(images_B3SS, indices=self.indices)
        tokens = [_visible(grid.flatten(2).transpose(1, 2), keep_BN) for grid in grids]
        shallow = [statistics(level) for level in tokens[:-1]]
        if final.ndim == 4:  # a CNN has layers behind its last grid
            return Encoded((*shallow, self.network.forward_head(final, pre_logits=True)), tokens[-1], None)
        return self._encoded(shallow, tokens[-1], final[:, 0] if self.has_class_token else None)

    @staticmethod
    def _encoded(shallow: list[Tensor], tokens_BND: Tensor, class_token_BD: Tensor | None) -> Encoded:
        mean_BD = tokens_BND.mean(1)
        last = mean_BD if class_token_BD is None else torch.cat([class_token_BD, mean_BD], 1)
        return Encoded((*shallow, last), tokens_BND, class_token_BD)


def _in_short(tokens_BND: Tensor) -> Tensor:
    """On a GPU in mixed precision what flows from block to block is short too: it is moved more than it is computed."""
    if tokens_BND.is_cuda and torch.is_autocast_enabled():
        return tokens_BND.to(torch.get_autocast_dtype("cuda"))
    return tokens_BND


def _visible(tokens_BPD: Tensor, keep_BN: Tensor | None) -> Tensor:
    if keep_BN is None:
        return tokens_BPD
    return tokens_BPD.gather(1, _over(keep_BN, tokens_BPD.shape[2]))


def _over(keep_BN: Tensor, features: int) -> Tensor:
    """Indices for ``gather`` of whole tokens."""
    return keep_BN[..., None].expand(-1, -1, features)


def statistics(tokens_BND: Tensor) -> Tensor:
    """Mean and deviation over the patches, [B,2D], as the tasks pool a level."""
    deviation_BD = tokens_BND.float().var(1, unbiased=False).clamp(min=1e-6).sqrt()
    return torch.cat([tokens_BND.mean(1), deviation_BD.to(tokens_BND.dtype)], 1)
