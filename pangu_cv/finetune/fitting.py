"""What all trained tasks do alike: adapt the backbone, train on variants of the labelled images, leave a plain network.

Shapes: S pixels a side as the network sees an image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pangu_cv.data.sample import Sample
from pangu_cv.finetune.auto import Choice, Trial, choose
from pangu_cv.finetune.folds import Shown
from pangu_cv.finetune.recipe import FinetuneRecipe
from pangu_cv.finetune.staying_near import Start
from pangu_cv.models.adapt import Adapt, Frozen, Group, Moving, learning, settle
from pangu_cv.models.backbone import Backbone, BackboneFeatures
from pangu_cv.models.cut import Cut
from pangu_cv.models.gpu import usable_gpu
from pangu_cv.models.training import History, Pool, suits_bf16, train

Losses = dict[str, Tensor]
_AUTO_SECONDS = 900.0


@dataclass(frozen=True)
class Example:
    """One variant: float32[1,3,S,S], what is true of it, and what the frozen part of the backbone says of it."""

    prepared: Tensor
    truth: Any
    kept: tuple[Tensor, ...] | None = None


Read = Callable[[BackboneFeatures], Sequence[Tensor]]
Memory = dict[int, dict[tuple[Path, int], Example]]
"""Variants kept from one training to the next from the same start, by the block at which learning begins."""


class Trained(Protocol):
    """A model with a backbone and a head."""

    backbone: Backbone
    head: nn.Module


def chosen_way(
    recipe: FinetuneRecipe,
    support: Sequence[Sample],
    trial: Callable[[FinetuneRecipe], Trial],
    *,
    seed: int,
    shown: Shown | None = None,
) -> tuple[FinetuneRecipe, Choice | None]:
    """The recipe with the way that ``auto`` takes for a dense task; as it is where the recipe names a way.

    ``trial(recipe)`` tries ways by a recipe whose trainings end in time for all of them; ``shown`` are the classes of
    each image, which are spread over the folds.
    """
    auto = recipe.adapt
    if auto.kind != "auto":
        return recipe, None
    ways = tuple(way for way in auto.ways if way.kind not in ("frozen", "linear"))  # a dense head is trained anyway
    seconds = auto.seconds or _AUTO_SECONDS
    share = min(seconds / ((len(ways) + 1) * auto.folds), recipe.train.max_seconds or float("inf"))
    brief = recipe.model_copy(update={"train": recipe.train.model_copy(update={"max_seconds": share})})
    # Trials are bounded one by one: measuring beyond that must not take the last way its turn.
    auto = auto.model_copy(update={"ways": ways})
    choice = choose(auto, support, trial(brief), seed=seed, seconds=2 * seconds, shown=shown)
    return recipe.with_way(choice.way), choice


def fit_new_head(
    model: Any,
    recipe: FinetuneRecipe,
    make: Callable[[int, int], Example],
    losses_of: Callable[[Tensor, Sequence[Tensor], list[Any]], Losses],
    *,
    support: Sequence[Sample],
    seed: int,
) -> History:
    """``fit`` of a head with random weights.

    Where the recipe ends part of the way between start and trained, the head is trained alone first, so that there is
    a start: linear probing before fine-tuning (2202.10054), then WiSE-FT. That takes as long again; ``max_seconds`` is
    for both.
    """
    way, config = recipe.adapt, recipe.train
    if not isinstance(way, Moving) or way.interpolate == 1:
        return fit(model, recipe, make, losses_of, support=support, seed=seed)
    if config.max_seconds:
        halved = config.model_copy(update={"max_seconds": config.max_seconds / 2})
        recipe = recipe.model_copy(update={"train": halved})
    first = fit(model, recipe.with_way(Frozen()), make, losses_of, support=support, seed=seed)
    return first.followed_by(fit(model, recipe, make, losses_of, support=support, seed=seed))


def fit(
    model: Any,
    recipe: FinetuneRecipe,
    make: Callable[[int, int], Example],
    losses_of: Callable[[Tensor, Sequence[Tensor], list[Any]], Losses],
    *,
    support: Sequence[Sample],
    seed: int,
    read: Read | None = None,
    memory: Memory | None = None,
) -> History:
    """Train ``model`` on labelled images; ``make(place, seed)`` is a variant of one of them.

    ``losses_of(prepared, seen, truths)`` are the weighted losses of a batch; ``seen`` is what ``read`` takes of the
    backbone's features, by default the grids. ``memory`` is for further trainings from the same start. The model ends
    in eval mode.
    """
    trained: Trained = model
    if recipe.adapt.kind == "auto":
        raise AssertionError("auto is resolved before training")
    config = recipe.train
    groups = recipe.adapt.prepare(trained.backbone)
    held = recipe.adapt if isinstance(recipe.adapt, Moving) else Moving()
    start = Start(groups) if held.l2_sp else None
    trained.head.requires_grad_(True)
    ends = Start([*groups, Group(tuple(trained.head.parameters()), 1.0)]) if held.interpolate < 1 else None

    def device() -> torch.device:
        return next(trained.head.parameters()).device

    parts = _parts(trained.backbone, recipe.adapt, read)
    is_bf16 = suits_bf16(trained.backbone, config, on_gpu=usable_gpu())

    def arithmetic() -> torch.autocast:
        return torch.autocast(device().type, torch.bfloat16, enabled=is_bf16)

    def keep(place: int, item_seed: int) -> Example:
        made = make(place, item_seed)
        with torch.no_grad(), arithmetic():
            kept = parts.shallow(made.prepared.to(device()))
        # Kept in half precision: a pool of hundreds of variants is most of the memory of a run.
        return replace(made, prepared=made.prepared.half(), kept=tuple(part.cpu().half() for part in kept))

    def losses(batch: list[Example]) -> Losses:
        prepared = torch.cat([one.prepared for one in batch]).to(device()).float()
        kept = [torch.cat(part).to(device()).float() for part in zip(*(one.kept or () for one in batch), strict=True)]
        with arithmetic():
            seen = [part.float() for part in parts.deep(kept, prepared)]
        found = losses_of(prepared, seen, [one.truth for one in batch])
        return found | {"l2_sp": held.l2_sp * start.penalty()} if start else found

    blocks = recipe.adapt.blocks if recipe.adapt.kind == "partial" else 0
    known = {} if memory is None else memory.setdefault(blocks, {})
    maker = Pool(keep, [s.path for s in support], size=config.pool, kept=known) if parts.is_kept else make
    settled = recipe.adapt.settled if recipe.adapt.kind == "partial" else 0.0
    history = train(model, groups, maker, losses, count=len(support), config=config, seed=seed, settled=settled)
    if ends:
        ends.interpolate(held.interpolate)
    history.learning = learning(groups) + sum(p.numel() for p in trained.head.parameters())
    settle(trained.backbone)
    return history


@dataclass(frozen=True)
class _Parts:
    """What is said once of a variant and kept, and what the head sees, made of it in every step."""

    shallow: Callable[[Tensor], Sequence[Tensor]]
    deep: Callable[[Sequence[Tensor], Tensor], Sequence[Tensor]]
    is_kept: bool = True


def _parts(backbone: Backbone, way: Adapt, read: Read | None) -> _Parts:
    """A frozen backbone says all of it once, one whose last blocks learn what comes before them, others nothing."""

    def whole(prepared_B3SS: Tensor) -> Sequence[Tensor]:
        return read(backbone(prepared_B3SS)) if read else backbone.grids(prepared_B3SS)

    if way.kind in ("frozen", "linear"):
        return _Parts(whole, lambda kept, _: kept)
    if way.kind != "partial" or not Cut.is_possible(backbone):
        return _Parts(lambda _: (), lambda _, prepared: whole(prepared), is_kept=False)
    cut = Cut(backbone, deep=way.blocks)

    def deep(kept: Sequence[Tensor], prepared_B3SS: Tensor) -> Sequence[Tensor]:
        features = cut.deep(kept, prepared_B3SS)
        return read(features) if read else features.grids_BDhw

    return _Parts(cut.shallow, deep)
