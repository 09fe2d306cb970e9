"""How much hard cases should weigh: tried on images that are left out, kept ones and the hard cases themselves.

A hard case is one that the model got wrong, so it pulls hard: at the weight of any other image twenty of them can cost
the images the model was made for half a point (docs/LOG.md). So weights far below 1 are tried, and bounded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pangu_cv.tasks.class_memory import ClassMemory, ClosedFormModel, Lesson
from pangu_cv.tasks.classify import ClassifyModel

WEIGHTS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_USUAL = 100  # images of a class that are left out in turn, at most


@dataclass(frozen=True)
class WeightTrial:
    """A weight, the mean loss of left-out usual images and of left-out hard cases, and how many are right.

    Weight 0 is the model without the hard cases.
    """

    weight: float
    usual_loss: float
    hard_loss: float
    usual_right: float
    hard_right: float
    is_chosen: bool = False


@dataclass(frozen=True, eq=False)
class _Left:
    """What is mapped and what is true of usual images and of hard cases, each left out; groups of the usual ones."""

    usual: tuple[Tensor, Tensor]
    hard: tuple[Tensor, Tensor]
    kin: list[str]


def choose_weight(model: ClosedFormModel, memory: ClassMemory, lessons: Sequence[Lesson]) -> tuple[WeightTrial, ...]:
    """Each weight tried, the first of them 0, which is never chosen.

    Of the weights at which usual images lose nothing, in loss and in right answers, the lightest is chosen whose hard
    cases are as good as those of the best of them, to one standard error (the rule of Breiman et al. 1984); where usual
    images lose at every weight, the lightest of all. Every image is left out of the regression exactly; ``memory`` has
    not learnt the lessons yet.
    """
    roomy = memory.roomy(max(len(lessons), _USUAL))
    tried = [_left_out(model, roomy, lessons, weight) for weight in (0.0, *WEIGHTS)]
    temperature = _temperature(model, tried[0])
    hard_losses = [_losses(model, one.hard[0] / temperature, one.hard[1]) for one in tried]
    trials = []
    for weight, one, losses_H in zip((0.0, *WEIGHTS), tried, hard_losses, strict=True):
        usual_loss = float(_losses(model, one.usual[0] / temperature, one.usual[1]).mean())
        usual_right, hard_right = (_right(model, *part) for part in (one.usual, one.hard))
        trials.append(WeightTrial(weight, usual_loss, float(losses_H.mean()), usual_right, hard_right))
    chosen = _chosen(trials, hard_losses)
    return tuple(replace(one, is_chosen=at == chosen) for at, one in enumerate(trials))


def _chosen(trials: Sequence[WeightTrial], hard_losses: Sequence[Tensor]) -> int:
    without = trials[0]
    harmless = [
        at
        for at, one in enumerate(trials)
        if at and one.usual_loss <= without.usual_loss and one.usual_right >= without.usual_right
    ]
    if not harmless:
        return 1
    best = min(harmless, key=lambda at: trials[at].hard_loss)
    for at in harmless:
        gap_H = hard_losses[at] - hard_losses[best]
        if float(gap_H.mean()) <= float(gap_H.std(unbiased=False)) / math.sqrt(len(gap_H)):
            return at
    raise AssertionError("the best is as good as itself")


def _left_out(model: ClosedFormModel, roomy: ClassMemory, lessons: Sequence[Lesson], weight: float) -> _Left:
    given = weight or 1e-12  # as good as nothing
    grown = roomy.learn(model, [replace(one, weight=given) for one in lessons])
    solution = model.head.solved(grown.ridge)
    usual, hard = ([key for key in grown.replay if grown.known[key].is_hard == is_hard] for is_hard in (False, True))

    def part(chosen: list[str]) -> tuple[Tensor, Tensor]:
        mapped_NC = torch.cat([model.at_decision(one[None]) for one in grown.left_out(solution, chosen)])
        return mapped_NC, torch.stack([grown.target(grown.known[key].classes) for key in chosen])

    return _Left(part(usual), part(hard), [grown.group_of(key) for key in usual])


def _temperature(model: ClosedFormModel, left: _Left) -> float:
    """The one that fits usual images; a tagger's sigmoids are steep enough by half."""
    if not isinstance(model, ClassifyModel):
        return 0.1
    mapped_NC, truth_NC = left.usual
    head = model.config.head.build(groups=model.groups, classes=truth_NC.shape[1])
    head.calibrate(mapped_NC, truth_NC.argmax(1), left.kin)
    return float(head.temperature)


def _losses(model: ClosedFormModel, logits_NC: Tensor, truth_NC: Tensor) -> Tensor:
    """Of each image, float64[N]."""
    if isinstance(model, ClassifyModel):
        return nn.functional.cross_entropy(logits_NC, truth_NC, reduction="none")
    return nn.functional.binary_cross_entropy_with_logits(logits_NC - 5.0, truth_NC, reduction="none").mean(1)


def _right(model: ClosedFormModel, mapped_NC: Tensor, truth_NC: Tensor) -> float:
    if isinstance(model, ClassifyModel):
        return float((mapped_NC.argmax(1) == truth_NC.argmax(1)).double().mean())
    return float(((mapped_NC > 0.5) == truth_NC.bool()).all(1).double().mean())
