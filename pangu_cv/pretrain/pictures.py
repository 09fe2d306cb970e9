"""What a backbone sees, as pictures: where it looks, what it finds alike, and what it can repair.

Shapes: S pixels a side, h×w the patch grid.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from pangu_cv.pretrain.loop import Parts, embed, square
from pangu_cv.pretrain.neighbours import sample
from pangu_cv.pretrain.objectives.joint import Joint
from pangu_cv.pretrain.patches import draw_visible, from_patches, to_patches
from pangu_cv.pretrain.views import damage
from pangu_cv.report.picture import ImageArray, Picture, Row

_SEED = 5


def spread(parts: Parts, *, count: int = 6) -> list[int]:
    """Image numbers from all datasets alike, the same ones every time."""
    source_M = parts.feed.images.source_M
    sources = np.unique(source_M)
    each = max(1, count // len(sources))
    random = np.random.default_rng(_SEED)
    return [int(n) for s in sources for n in random.permutation(np.flatnonzero(source_M == s))[:each]][:count]


@torch.no_grad()
def attention_rows(parts: Parts, numbers: Sequence[int]) -> list[Row]:
    """How much the class token of the last block attends to each patch; empty where the network has none."""
    encoder = parts.objective.encoder
    if not encoder.drops_patches or not encoder.network.num_prefix_tokens:
        return []
    rows = []
    for number in numbers:
        image = _view(parts, number)
        weights_hw = class_attention(encoder.network, _input(parts, image))
        rows.append(
            Row(
                (Picture(image, "image"), Picture(_shaded(image, weights_hw), "where it looks")),
                parts.feed.images.paths[number].name,
            )
        )
    return rows


def class_attention(network: Any, image_13SS: Tensor) -> Tensor:
    """Softmax weights of the class token on the patches in the last block, mean over heads, [h,w]."""
    before = len(network.blocks) - 2  # no hook inside the last block: compiled, it would not be called
    options = {"intermediates_only": True, "return_prefix_tokens": True, "output_fmt": "NLC"}
    (patches, first), *_ = network.forward_intermediates(image_13SS, indices=[before], **options)
    attention = network.blocks[-1].attn
    x = network.blocks[-1].norm1(torch.cat([first, patches], 1))
    heads, prefix = attention.num_heads, int(network.num_prefix_tokens)
    q, k, _ = attention.qkv(x).reshape(1, x.shape[1], 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    q, k = attention.q_norm(q), attention.k_norm(k)
    weights = (q[:, :, :1] @ k.transpose(-2, -1) * attention.scale).softmax(-1)[0, :, 0, prefix:].mean(0)
    grid: Tensor = weights.view(round(len(weights) ** 0.5), -1)
    return grid


def neighbour_rows(parts: Parts, numbers: Sequence[int], *, k: int = 5) -> list[Row]:
    """The nearest images of the same dataset, of many images among a sample."""
    images = parts.feed.images
    sample_P = sample(images.source_M, np.array(numbers), seed=[_SEED])
    features_PD = embed(parts, sample_P)
    rows = []
    for number in numbers:
        own = np.flatnonzero(images.source_M[sample_P] == images.source_M[number])
        members = sample_P[own]
        similarity = features_PD[own] @ features_PD[np.searchsorted(sample_P, number)]
        order = [int(members[at]) for at in similarity.argsort(descending=True).tolist() if members[at] != number][:k]
        found = [Picture(_view(parts, n), images.paths[n].name) for n in order]
        rows.append(Row((Picture(_view(parts, number), "image"), *found), images.paths[number].name))
    return rows


@torch.no_grad()
def repair_rows(parts: Parts) -> list[Row]:
    """Damaged and partly hidden images, and what the decoder makes of them; empty without a decoder."""
    objective = parts.objective
    if not isinstance(objective, Joint) or objective.decoder is None:
        return []
    objective.eval()
    harm = parts.feed.views.damage
    harm = harm.model_copy(update={"p": 1.0 if harm.p else 0.0})
    rows = []
    for position, number in enumerate(spread(parts)):
        clean = _view(parts, number)
        damaged = damage(clean, harm, np.random.default_rng(position))
        keep = draw_visible(torch.tensor([number]), patches=objective.patches, hidden=objective.config.hidden, view=0)
        keep = None if keep is None else keep.to(parts.fabric.device)
        x = _input(parts, damaged)
        encoded = objective.encoder(x, keep)
        repaired = objective.decoder(encoded.tokens_BND, keep, x)
        shown, found = _assembled(objective, x, _input(parts, clean), repaired.patches_BPC, repaired.image_B3SS, keep)
        cells = (
            Picture(clean, "as it was"),
            Picture(_pixels(objective, shown), "what the network got"),
            Picture(_pixels(objective, found), "repaired"),
        )
        rows.append(Row(cells, parts.feed.images.paths[number].name))
    return rows


def _assembled(
    objective: Joint, damaged: Tensor, clean: Tensor, patches: Tensor, image: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Hidden patches come from the patch output, given the true mean and deviation that its loss leaves out."""
    px = objective.encoder.patch_px
    seen, made, truth = to_patches(damaged, px), to_patches(image, px), to_patches(clean, px)
    painted = patches * (truth.var(2, keepdim=True) + 1e-4).sqrt() + truth.mean(2, keepdim=True)
    if keep is None:
        return damaged, image
    visible = torch.zeros(seen.shape[:2], device=seen.device).scatter_(1, keep, 1.0)[..., None]
    return from_patches(seen * visible, px), from_patches(made * visible + painted * (1 - visible), px)


def _view(parts: Parts, number: int) -> ImageArray:
    found: ImageArray = square(parts.feed.cache.read(parts.feed.images.paths[number]), parts.feed.views.image_px)
    return found


def _input(parts: Parts, image_SS3: ImageArray) -> Tensor:
    pixels = torch.from_numpy(np.ascontiguousarray(image_SS3))[None].to(parts.fabric.device)
    return parts.objective.normal(pixels)


def _pixels(objective: nn.Module, image_13SS: Tensor) -> ImageArray:
    pixels = (image_13SS * objective.std + objective.mean)[0].permute(1, 2, 0)  # type: ignore[operator]
    found: ImageArray = pixels.clamp(0, 255).round().byte().cpu().numpy()
    return found


def _shaded(image_SS3: ImageArray, weights_hw: Tensor) -> ImageArray:
    """The image, dark where little weight lies."""
    side = image_SS3.shape[0]
    weights = cv2.resize(weights_hw.float().cpu().numpy(), (side, side), interpolation=cv2.INTER_CUBIC)
    low, high = np.quantile(weights, [0.1, 0.98])
    share = ((weights - low) / max(high - low, 1e-12)).clip(0, 1)[..., None]
    return np.asarray((image_SS3 * (0.2 + 0.8 * share)).round(), np.uint8)
