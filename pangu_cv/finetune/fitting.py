"""What all trained tasks do alike: adapt the backbone, train on variants of the labelled images, leave a plain network.

Shapes: S pixels a side as the network sees an image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pangu_cv.data.sample import Sample
from pangu_cv.finetune.auto import Choice, Trial, choose
from pangu_cv.finetune.recipe import FinetuneRecipe
from pangu_cv.finetune.staying_near import Start
from pangu_cv.finetune.training import History, Pool, TrainConfig, train
from pangu_cv.models.adapt import learning, settle
from pangu_cv.models.arithmetic import best_precision
from pangu_cv.models.backbone import Backbone

Losses = dict[str, Tensor]
_AUTO_SECONDS = 900.0


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


def chosen_way(
    recipe: FinetuneRecipe, support: Sequence[Sample], trial: Callable[[FinetuneRecipe], Trial], *, seed: int
) -> tuple[FinetuneRecipe, Choice | None]:
    """The recipe with the way that ``auto`` takes for a dense task; as it is where the recipe names a way.

    ``trial(recipe)`` tries ways by a recipe whose trainings end in time for all of them.
    """
    auto = recipe.adapt
    if auto.kind != "auto":
        return recipe, None
    ways = tuple(way for way in auto.ways if way.kind not in ("frozen", "linear"))  # a dense head is trained anyway
    seconds = auto.seconds or _AUTO_SECONDS
    share = min(seconds / ((len(ways) + 1) * auto.folds), recipe.train.max_seconds or float("inf"))
    brief = recipe.model_copy(update={"train": recipe.train.model_copy(update={"max_seconds": share})})
    # Trials are bounded one by one: measuring beyond that must not take the last way its turn.
    choice = choose(auto.model_copy(update={"ways": ways}), support, trial(brief), seed=seed, seconds=2 * seconds)
    return recipe.with_way(choice.way), choice


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
        raise AssertionError("auto is resolved before training")
    config = recipe.train
    groups = recipe.adapt.prepare(trained.backbone)
    start = Start(groups) if config.l2_sp or config.interpolate < 1 else None
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
        # Kept in half precision: a pool of hundreds of variants is most of the memory of a run.
        return replace(made, prepared=made.prepared.half(), grids=tuple(grid.cpu().half() for grid in grids))

    def losses(batch: list[Example]) -> Losses:
        prepared = torch.cat([one.prepared for one in batch]).to(device()).float()
        if batch[0].grids is None:
            grids: Sequence[Tensor] = seen(prepared)
        else:
            levels = zip(*(one.grids or () for one in batch), strict=True)
            grids = [torch.cat(level).to(device()).float() for level in levels]
        found = losses_of(prepared, grids, [one.truth for one in batch])
        return found | {"l2_sp": config.l2_sp * start.penalty()} if start and config.l2_sp else found

    maker = make if groups else Pool(with_grids, count=count, size=recipe.train.pool)
    settled = recipe.adapt.settled if recipe.adapt.kind == "partial" else 0.0
    history = train(model, groups, maker, losses, count=count, config=config, seed=seed, settled=settled)
    if start and config.interpolate < 1:
        start.interpolate(config.interpolate)
    history.learning = learning(groups) + sum(p.numel() for p in trained.head.parameters())
    settle(trained.backbone)
    return history


def _suits_bf16(backbone: Backbone, config: TrainConfig) -> bool:
    """A ViT's matrix products gain from it wherever there are units for it, a CNN's convolutions on a GPU alone."""
    on_gpu = torch.cuda.is_available()
    if config.precision != "auto":
        return config.precision == "bf16-mixed"
    return best_precision(on_gpu=on_gpu) == "bf16-mixed" and (on_gpu or hasattr(backbone.network, "num_prefix_tokens"))
