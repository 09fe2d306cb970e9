"""AdamW with layer-wise learning rates, a warm-up and a cosine."""

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from timm.optim import param_groups_layer_decay
from torch import nn

from pangu_cv.pretrain.encoder import Encoder
from pangu_cv.settings import Settings

Positive = Annotated[int, Field(ge=1)]


class OptimConfig(Settings):
    """AdamW with a warm-up and a cosine down to nothing."""

    steps: Positive = 300
    """Optimiser steps."""
    batch: Annotated[int, Field(ge=2)] = 128
    """Images of a step, over all processes and accumulated parts."""
    accumulate: Positive = 1
    """Parts a batch is cut into; each part is contrasted within itself only."""
    lr: Annotated[float, Field(gt=0)] = 4e-4
    """Highest learning rate of the last block and the heads."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Factor of the learning rate from each block to the one before it; 1 when starting from random weights."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Of matrices."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps."""
    clip: Annotated[float, Field(gt=0)] = 3.0
    """Largest norm of the gradient."""


def build_optimiser(objective: nn.Module, settings: OptimConfig) -> torch.optim.Optimizer:
    """One group per depth and kind of tensor; ``lr_scale`` of a group is its share of the learning rate."""
    encoder = objective.encoder
    assert isinstance(encoder, Encoder)
    groups: list[dict[str, Any]] = param_groups_layer_decay(
        encoder.network, weight_decay=settings.weight_decay, layer_decay=settings.layer_decay
    )
    decoder = getattr(objective, "decoder", None)
    quick = [] if decoder is None else list(decoder.refine.parameters())
    known = {id(parameter) for parameter in (*encoder.parameters(), *quick)}
    others = [p for p in objective.parameters() if p.requires_grad and id(p) not in known]
    groups += _by_kind(others, settings)
    if decoder is not None:
        groups += [group | {"lr_scale": decoder.refine_lr / settings.lr} for group in _by_kind(quick, settings)]
    on_gpu = next(encoder.parameters()).is_cuda
    used = [group for group in groups if group["params"]]
    return torch.optim.AdamW(used, lr=settings.lr, betas=(0.9, 0.98), fused=on_gpu or None)


def _by_kind(parameters: list[nn.Parameter], settings: OptimConfig) -> list[dict[str, Any]]:
    """Matrices and kernels decay, all else does not."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def set_rate(optimiser: torch.optim.Optimizer, settings: OptimConfig, step: int) -> float:
    """Set every group's rate for ``step`` and return the highest."""
    warm = max(1, round(settings.warmup * settings.steps))
    if step < warm:
        share = (step + 1) / warm
    else:
        share = 0.5 + 0.5 * math.cos(math.pi * (step - warm) / max(1, settings.steps - warm))
    for group in optimiser.param_groups:
        group["lr"] = settings.lr * share * group.get("lr_scale", 1.0)
    return settings.lr * share
