"""Low-rank updates merged: what each model has learnt, as its difference from the common start, put together.

Checkpoints hold LoRA's matrices folded into the weights, so differences of weights are merged: task arithmetic
(arXiv 2212.04089), TIES (2306.01708), DARE (2311.03099). The formulas are peft's ``add_weighted_adapter``'s (tests
compare); any way of adapting may have made the models, and what comes out can be brought back to a low rank.
"""

from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from pangu_cv.errors import SettingsError
from pangu_cv.iterate.fuse.ancestry import ancestor, require_kin
from pangu_cv.iterate.fuse.gathering import Fused, Gathering, Tried
from pangu_cv.iterate.fuse.heads import Headed, HeadRule, headed
from pangu_cv.iterate.fuse.weights import dare, low_rank, moved, task_sum, ties
from pangu_cv.settings import PathSetting, Settings

_SCALES = {"linear": (0.2, 0.4, 0.6, 0.8, 1.0), "dare": (0.2, 0.4, 0.6, 0.8, 1.0)}
_TIES_SCALES = (0.4, 0.7, 1.0, 1.3, 1.6)
_SCALE = {"linear": 0.4, "dare": 0.4, "ties": 1.0, "dare_ties": 1.0}  # without labels; the papers' middles


class LoraConfig(Settings):
    """Merge what models of one ancestor have learnt."""

    kind: Literal["lora"] = "lora"
    """The way."""
    combine: Literal["linear", "ties", "dare", "dare_ties"] = "ties"
    """linear: their sum (task arithmetic); ties: largest ones, of the elected sign; dare: random ones, made larger."""
    density: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of each model's differences that ties and dare keep."""
    scale: Annotated[float, Field(gt=0)] | None = None
    """How far to go along what is merged; null tries a few on labelled images, and takes a usual one without."""
    rank: Annotated[int, Field(ge=1)] | None = None
    """Bring the merged difference of every matrix back to this rank; null leaves it."""
    start: PathSetting | None = None
    """The weights that all come from; null looks for the parent that they name."""
    head: HeadRule = "auto"
    """As for a soup."""


def merge(how: LoraConfig, gathering: Gathering) -> Fused:
    """Make it; raises SettingsError where the start is not to be found or nothing was learnt."""
    members = gathering.members
    require_kin(members, how="lora")
    start = ancestor(members, how.start, how="lora")
    states = [member.model.backbone.network.state_dict() for member in members]
    if all(torch.equal(state[name], start[name]) for state in states for name in start):
        raise SettingsError(
            "how: lora merges what backbones have learnt, and all of these are as they started; take graph"
        )

    def at(scale: float, *, is_trial: bool) -> Headed:
        combine = _combine(how, torch.Generator().manual_seed(gathering.seed))
        state = moved(start, states, combine, scale)
        return headed(gathering, state, members, how.head, about=f"scale {scale:g}", is_trial=is_trial)

    scale = how.scale
    tried: tuple[Tried, ...] = ()
    if scale is None and len(gathering.evidence.labelled):
        scales = _SCALES.get(how.combine, _TIES_SCALES)
        worths = [at(one, is_trial=True).worth for one in scales]
        scale = max(zip(worths, scales, strict=True), key=lambda pair: pair[0])[1]
        tried = tuple(Tried(f"scale {one:g}", w, one == scale) for one, w in zip(scales, worths, strict=True))
    scale = scale or _SCALE[how.combine]
    made = at(scale, is_trial=False)
    told = f"{scale:g} times the {how.combine} of what {len(members)} models learnt, on top of their start"
    return Fused(made.model, f"merged updates ({how.combine})", told, made.worth, tried, left_out_NC=made.scores_NC)


def _combine(how: LoraConfig, random: torch.Generator) -> "partial[Tensor]":
    return partial(_combined, how=how, random=random)


def _combined(deltas_M: Tensor, *, how: LoraConfig, random: torch.Generator) -> Tensor:
    if how.combine.startswith("dare"):
        deltas_M = dare(deltas_M, density=how.density, random=random)
    density = how.density if how.combine == "ties" else 1.0
    merged = ties(deltas_M, density=density) if how.combine.endswith("ties") else task_sum(deltas_M)
    return merged if how.rank is None else low_rank(merged, rank=how.rank)
