"""The sub-models a plain ViT holds: fewer blocks, heads, channels and hidden units, and smaller images.

Every block of a sub-model has the same size, so that timm builds it from numbers alone and nothing special is needed
to load it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field
from timm.layers import Attention, Mlp
from timm.models import VisionTransformer
from timm.models.vision_transformer import Block

from pangu_cv.errors import SettingsError
from pangu_cv.models.backbone import Backbone
from pangu_cv.settings import Settings

Share = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True, order=True)
class Shape:
    """Side of the input, blocks, heads (of the teacher's own width each) and hidden units of an MLP."""

    image_px: int
    depth: int
    heads: int
    hidden: int
    head_dim: int

    @property
    def channels(self) -> int:
        """Of a token; timm's ViT ties them to the heads."""
        return self.heads * self.head_dim

    @property
    def arguments(self) -> dict[str, int | float | bool]:
        """What timm is told beside the teacher's own arguments."""
        return {
            "embed_dim": self.channels,
            "depth": self.depth,
            "num_heads": self.heads,
            "mlp_ratio": self._mlp_ratio,
            "img_size": self.image_px,
        }

    @property
    def _mlp_ratio(self) -> float:
        """Of which timm makes ``int(channels * ratio)`` hidden units."""
        ratio = self.hidden / self.channels
        return ratio if int(self.channels * ratio) == self.hidden else math.nextafter(ratio, math.inf)

    def __str__(self) -> str:
        return f"{self.image_px} px, {self.depth} blocks, {self.heads} heads ({self.channels}), {self.hidden} hidden"


class LatticeConfig(Settings):
    """Which sub-models are considered: shares of the teacher's own numbers."""

    sides: tuple[Share, ...] = (1.0, 0.86, 0.72, 0.58, 0.5, 0.43)
    """Of the input's side, rounded to whole patches."""
    heads: tuple[Share, ...] = (1.0, 0.67, 0.5, 0.33)
    """Of the heads, rounded, and with them of the channels."""
    hidden: tuple[Share, ...] = (1.0, 0.75, 0.5, 0.25)
    """Of the MLPs' hidden units."""
    least_depth: Annotated[int, Field(ge=1)] = 2
    """Fewer blocks are not considered, nor fewer than the task reads levels."""


def require_plain(backbone: Backbone) -> None:
    """Raise SettingsError where the network is not a plain ViT, of which a sub-model can be taken."""
    network = backbone.network
    is_plain = type(network) is VisionTransformer and all(
        type(block) is Block and type(block.attn) is Attention and type(block.mlp) is Mlp for block in network.blocks
    )
    reasons = [] if is_plain else ["it is no plain ViT"]
    if is_plain and any(hasattr(block.attn.q_norm, "weight") for block in network.blocks):
        reasons.append("its attention normalises queries")
    if is_plain and hasattr(network.norm_pre, "weight"):
        reasons.append("it normalises before the first block")
    if reasons:
        raise SettingsError(
            f"model: no sub-model can be taken of '{backbone.config.name}' ({reasons[0]}); name a network of timm's "
            "instead: pangu-cv distill student ... student.name=mobilenetv4_conv_small"
        )


def whole(backbone: Backbone, *, image_px: int, depth: int) -> Shape:
    """The teacher itself, as far as it is read."""
    block = backbone.network.blocks[0]
    return Shape(image_px, depth, block.attn.num_heads, block.mlp.fc1.out_features, block.attn.head_dim)


def params_in(shape: Shape, network: Any) -> int:
    """Parameters of a sub-model of ``network``, counted without building it."""
    wide, patch = shape.channels, network.patch_embed.proj
    block = network.blocks[0]
    tokens = (shape.image_px // int(network.patch_embed.patch_size[0])) ** 2
    embedding = patch.weight[0].numel() + int(patch.bias is not None)
    prefix = network.num_prefix_tokens + (0 if network.no_embed_class else network.num_prefix_tokens)
    of_token = embedding + tokens + prefix + 2  # a channel of patches, positions, prefix, last norm
    norms = 4 + 2 * hasattr(block.ls1, "gamma")
    attention = 4 * wide + 3 * int(block.attn.qkv.bias is not None) + int(block.attn.proj.bias is not None)
    mlp = 2 * shape.hidden + 1
    per_block = wide * (norms + attention + mlp) + shape.hidden
    return int(wide * of_token + shape.depth * per_block)


def lattice(teacher: Shape, config: LatticeConfig, *, patch_px: int, multiple_px: int, least_depth: int) -> list[Shape]:
    """All sub-models to choose from; sides are multiples of the patch and of ``multiple_px`` (what the head needs)."""
    step = math.lcm(patch_px, multiple_px)
    sides = _rounded((round(teacher.image_px * share / step) * step for share in config.sides), least=2 * step)
    hidden = _rounded((round(teacher.hidden * share / 8) * 8 for share in config.hidden), least=8)
    depths = range(max(config.least_depth, least_depth), teacher.depth + 1)
    heads = _rounded((round(teacher.heads * share) for share in config.heads), least=1)
    return [
        replace(teacher, image_px=s, depth=d, heads=h, hidden=m)
        for s in sides
        for d in depths
        for h in heads
        for m in hidden
    ]


def _rounded(values: Iterable[int], *, least: int) -> Sequence[int]:
    return sorted({max(value, least) for value in values})
