"""What all trained tasks do alike: adapt the backbone, train on variants of the labelled images, leave a plain network.

Shapes: S pixels a side as the network sees an image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pangu_cv.errors import SettingsError
from pangu_cv.finetune.recipe import FinetuneRecipe
from pangu_cv.finetune.training import History, Pool, TrainConfig, train
from pangu_cv.models.adapt import learning, settle
from pangu_cv.models.arithmetic import best_precision
from pangu_cv.models.backbone import Backbone

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Example:
    """One variant: float32[1,3,S,S], what is true of it, and the backbone's grids where it is frozen."""

    prepared: Tensor
    truth: Any
    grids: tuple[Tensor, ...] | None = None


class Trained(Protocol):
    """A model with a backbone and a head."""

    backbone: Backbone
    head: nn.Module


def fit(
    model: Any,
    recipe: FinetuneRecipe,
    make: Callable[[int, int], Example],
    losses_of: Callable[[Tensor, Sequence[Tensor], list[Any]], Losses],
    *,
    count: int,
    seed: int,
    see: Callable[[Tensor], Sequence[Tensor]] | None = None,
) -> History:
    """Train ``model`` on ``count`` labelled images; ``make(place, seed)`` is a variant of one of them.

    ``losses_of(prepared, seen, truths)`` are the weighted losses of a batch; ``seen`` is what ``see`` says of the
    images, by default the backbone's grids. The model ends in eval mode.
    """
    trained: Trained = model
    if recipe.adapt.kind == "auto":
        raise SettingsError("adapt.kind: auto is for task.kind=classify; name a way: frozen, partial, full, lora")
    groups = recipe.adapt.prepare(trained.backbone)
    trained.head.requires_grad_(True)

    def device() -> torch.device:
        return next(trained.head.parameters()).device

    is_bf16 = _suits_bf16(trained.backbone, recipe.train)

    def seen(prepared_B3SS: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(prepared_B3SS.device.type, torch.bfloat16, enabled=is_bf16):
            return tuple(part.float() for part in (see or trained.backbone.grids)(prepared_B3SS))

    def with_grids(place: int, item_seed: int) -> Example:
        made = make(place, item_seed)
        with torch.no_grad():
            grids = seen(made.prepared.to(device()))
        return replace(made, grids=tuple(grid.cpu() for grid in grids))

    def losses(batch: list[Example]) -> Losses:
        prepared = torch.cat([one.prepared for one in batch]).to(device())
        if batch[0].grids is None:
            grids: Sequence[Tensor] = seen(prepared)
        else:
            grids = [torch.cat(level).to(device()) for level in zip(*(one.grids or () for one in batch), strict=True)]
        return losses_of(prepared, grids, [one.truth for one in batch])

    maker = make if groups else Pool(with_grids, count=count, size=recipe.train.pool)
    settled = recipe.adapt.settled if recipe.adapt.kind == "partial" else 0.0
    history = train(model, groups, maker, losses, count=count, config=recipe.train, seed=seed, settled=settled)
    history.learning = learning(groups) + sum(p.numel() for p in trained.head.parameters())
    settle(trained.backbone)
    return history


def _suits_bf16(backbone: Backbone, config: TrainConfig) -> bool:
    """A ViT's matrix products gain from it wherever there are units for it, a CNN's convolutions on a GPU alone."""
    on_gpu = torch.cuda.is_available()
    if config.precision != "auto":
        return config.precision == "bf16-mixed"
    return best_precision(on_gpu=on_gpu) == "bf16-mixed" and (on_gpu or hasattr(backbone.network, "num_prefix_tokens"))
