"""A sub-model taken out of a plain ViT: channels by rotation, heads and hidden units by rank, the rest made good.

The residual stream is turned so that its strongest directions fill the fewer channels, which a LayerNorm allows (the
way of SliceGPT, arXiv 2401.15024, here with LayerNorms that stay LayerNorms: the directions are kept at right angles
to the mean). Block after block the linear layers are then solved in closed form such that the sub-model's own stream
follows the teacher's: what was cut, blocks left out included, is made good as far as a linear map can. Our own
composition of published parts.

Shapes: N images, T tokens, D channels of the teacher, k of the sub-model, M rows (tokens of all images), H×E heads.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from pangu_cv.distill.affine import affine
from pangu_cv.distill.importance import Importance
from pangu_cv.distill.shape import Shape
from pangu_cv.models.backbone import Backbone, BackboneConfig

_RIDGE = 1e-2  # of the mean square of what is mapped, towards the weights as they were cut


@dataclass(frozen=True)
class Streams:
    """The teacher's residual stream [N,T,D] on some images: at the start, after each attention, after each block."""

    start: Tensor
    attended: tuple[Tensor, ...]
    blocks: tuple[Tensor, ...]

    def before(self, block: int) -> Tensor:
        """What a block is given."""
        return self.blocks[block - 1] if block else self.start


@torch.no_grad()
def streams(backbone: Backbone, prepared_N3SS: Tensor, *, depth: int) -> Streams:
    """Run the first ``depth`` blocks of the teacher."""
    network = backbone.network
    x = network._pos_embed(network.patch_embed(prepared_N3SS))
    start, attended, blocks = x, [], []
    for block in network.blocks[:depth]:
        x = x + block.ls1(block.attn(block.norm1(x)))
        attended.append(x)
        x = x + block.ls2(block.mlp(block.norm2(x)))
        blocks.append(x)
    return Streams(start, tuple(attended), tuple(blocks))


@torch.no_grad()
def extract(
    teacher: Backbone, shape: Shape, importance: Importance, seen: Streams, *, levels: tuple[int, ...]
) -> Backbone:
    """The sub-model, built by timm alone, with its weights; ``seen`` is of images of the sub-model's side."""
    made = sub_config(teacher.config, shape, levels=levels).build()
    into_kD = directions(seen, shape.channels)
    _cut_embedding(made.network, teacher.network, into_kD)
    kept = importance.blocks(shape.depth)
    ends = [after - 1 for after in kept[1:]] + [len(seen.blocks) - 1]
    y_NTk = seen.start @ into_kD.T
    for own, at, end in zip(made.network.blocks, kept, ends, strict=True):
        block = teacher.network.blocks[at]
        cut = _Cut(into_kD, importance.heads(at, shape.heads), importance.hidden(at, shape.hidden))
        y_NTk = cut.attention(own, block, y_NTk, given=seen.before(at), aim=seen.attended[at])
        y_NTk = cut.mlp(own, block, y_NTk, given=seen.attended[at], aim=seen.blocks[end])
    return made


def sub_config(teacher: BackboneConfig, shape: Shape, *, levels: tuple[int, ...]) -> BackboneConfig:
    """The settings that build a sub-model."""
    arguments = {**teacher.arguments, **shape.arguments}
    return teacher.model_copy(update={"weights": "random", "arguments": arguments, "levels": levels})


def directions(seen: Streams, channels: int) -> Tensor:
    """float32[k,D]: from the teacher's channels to the sub-model's, the strongest directions of all depths.

    Rows add up to nothing and take nothing from the mean, so that a LayerNorm over k channels does what the teacher's
    does over D.
    """
    parts = [seen.start, *seen.attended, *seen.blocks]
    features = parts[0].shape[-1]
    if channels == features:
        return torch.eye(features)
    total = torch.zeros(features, features, dtype=torch.float64)
    for part in parts:
        rows = part.flatten(0, 1).double()
        rows = rows - rows.mean(1, keepdim=True)
        total += rows.T @ rows / rows.square().sum()
    strongest_Dk = torch.linalg.eigh(total).eigenvectors[:, -(channels - 1) :]
    apart_kk = torch.linalg.qr(
        torch.cat([torch.ones(channels, 1), torch.eye(channels)[:, : channels - 1]], 1).double()
    ).Q[:, 1:]
    into_kD: Tensor = (apart_kk @ strongest_Dk.T).float()
    return into_kD


def _cut_embedding(student: Any, teacher: Any, into_kD: Tensor) -> None:
    proj = teacher.patch_embed.proj
    student.patch_embed.proj.weight.copy_(torch.einsum("kd,dcij->kcij", into_kD, proj.weight))
    if proj.bias is not None:
        student.patch_embed.proj.bias.copy_(into_kD @ proj.bias)
    for name in ("cls_token", "reg_token"):
        if getattr(teacher, name, None) is not None:
            getattr(student, name).copy_(getattr(teacher, name) @ into_kD.T)
    if teacher.pos_embed is not None:
        prefix = 0 if teacher.no_embed_class else teacher.num_prefix_tokens
        grid = student.patch_embed.grid_size
        old = teacher.patch_embed.grid_size
        at_size = resample_abs_pos_embed(teacher.pos_embed, new_size=grid, old_size=old, num_prefix_tokens=prefix)
        student.pos_embed.copy_(at_size @ into_kD.T)


@dataclass(frozen=True)
class _Cut:
    """One block: what is kept of it, and its linear layers solved one after the other."""

    into_kD: Tensor
    heads: Tensor
    hidden: Tensor

    def attention(self, own: Any, block: Any, y_NTk: Tensor, *, given: Tensor, aim: Tensor) -> Tensor:
        """Fill the student's attention; its stream behind it, which is to be ``aim``."""
        reads = _reader(own.norm1, block.norm1, y_NTk, given)
        old = block.attn
        rows = _rows_of_heads(self.heads, heads=old.num_heads, head_dim=old.head_dim)
        _read_by(own.attn.qkv, old.qkv.weight[rows], None if old.qkv.bias is None else old.qkv.bias[rows], reads)
        scale = _layer_scale(own.ls1, block.ls1)
        columns = rows[: len(rows) // 3]
        start = self.into_kD @ (scale[:, None] * old.proj.weight)[:, columns]
        bias = self.into_kD @ (scale * (0 if old.proj.bias is None else old.proj.bias))
        kept = own.attn.proj
        own.attn.proj = nn.Identity()
        inner = own.attn(own.norm1(y_NTk))
        own.attn.proj = kept
        _solve(kept, inner, aim @ self.into_kD.T - y_NTk, start, bias)
        return y_NTk + cast(Tensor, kept(inner))

    def mlp(self, own: Any, block: Any, y_NTk: Tensor, *, given: Tensor, aim: Tensor) -> Tensor:
        """Fill the student's MLP; its stream behind it, which is to be ``aim``."""
        reads = _reader(own.norm2, block.norm2, y_NTk, given)
        old = block.mlp
        _read_by(own.mlp.fc1, old.fc1.weight[self.hidden], old.fc1.bias[self.hidden], reads)
        scale = _layer_scale(own.ls2, block.ls2)
        start = self.into_kD @ (scale[:, None] * old.fc2.weight)[:, self.hidden]
        inner = own.mlp.act(own.mlp.fc1(own.norm2(y_NTk)))
        _solve(own.mlp.fc2, inner, aim @ self.into_kD.T - y_NTk, start, self.into_kD @ (scale * old.fc2.bias))
        return y_NTk + cast(Tensor, own.mlp.fc2(inner))


def _rows_of_heads(kept: Tensor, *, heads: int, head_dim: int) -> Tensor:
    """Rows of a fused query, key and value layer that belong to some heads."""
    rows = torch.arange(3 * heads * head_dim).view(3, heads, head_dim)
    return rows[:, kept].flatten()


def _layer_scale(own: Any, old: Any) -> Tensor:
    """The teacher's factor per channel, which goes into the layer before it; the student's own becomes 1."""
    if hasattr(own, "gamma"):
        own.gamma.fill_(1.0)
    return cast(Tensor, old.gamma) if hasattr(old, "gamma") else torch.ones(1)


def _reader(own_norm: Any, old_norm: Any, y_NTk: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """The affine map from the student's normalised stream to the teacher's: float32[D,k] and [D]."""
    own_norm.weight.fill_(1.0)
    own_norm.bias.fill_(0.0)
    if torch.equal(y_NTk, given):  # nothing was cut so far
        return torch.diag(old_norm.weight), old_norm.bias
    return affine(own_norm(y_NTk).flatten(0, 1), old_norm(given).flatten(0, 1), ridge=1e-4)


def _read_by(layer: Any, weight: Tensor, bias: Tensor | None, reads: tuple[Tensor, Tensor]) -> None:
    layer.weight.copy_(weight @ reads[0])
    layer.bias.copy_(weight @ reads[1] + (0 if bias is None else bias))


def _solve(layer: Any, given: Tensor, aim: Tensor, weight: Tensor, bias: Tensor) -> None:
    """Fill a linear layer: the weights as they were cut, moved such that it gives ``aim``."""
    left = aim - (given @ weight.T + bias)
    move, offset = affine(given.flatten(0, 1), left.flatten(0, 1), ridge=_RIDGE)
    layer.weight.copy_(weight + move)
    layer.bias.copy_(bias + offset)
