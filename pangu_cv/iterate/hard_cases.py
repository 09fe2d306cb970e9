"""How much hard cases should weigh: tried on images that are left out, kept ones and the hard cases themselves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from pangu_cv.tasks.class_memory import ClassMemory, ClosedFormModel, Lesson
from pangu_cv.tasks.classify import ClassifyModel

WEIGHTS = (1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True)
class WeightTrial:
    """A weight, the mean loss of left-out usual images and of left-out hard cases, and how many are right."""

    weight: float
    usual_loss: float
    hard_loss: float
    usual_right: float
    hard_right: float
    is_chosen: bool = False


def choose_weight(model: ClosedFormModel, memory: ClassMemory, lessons: Sequence[Lesson]) -> tuple[WeightTrial, ...]:
    """Each weight tried; chosen is that of the least mean of both losses, the lighter of equals.

    Every image is left out of the regression exactly; ``memory`` has not learnt the lessons yet.
    """
    trials = [_trial(model, memory, lessons, weight) for weight in WEIGHTS]
    best = trials[0]
    for _, other in pairwise(trials):
        if other.usual_loss + other.hard_loss < best.usual_loss + best.hard_loss - 1e-9:
            best = other
    return tuple(replace(one, is_chosen=one is best) for one in trials)


def _trial(model: ClosedFormModel, memory: ClassMemory, lessons: Sequence[Lesson], weight: float) -> WeightTrial:
    # All hard cases are kept for the trial, however many stay in the buffer.
    roomy = replace(memory, per_class=max(memory.per_class, len(lessons)))
    grown = roomy.learn(model, [replace(one, weight=weight) for one in lessons])
    solution = grown.ridge.solve(model.head.config.penalty)
    groups = []
    for is_hard in (False, True):
        chosen = [key for key in grown.replay if grown.known[key].is_hard == is_hard]
        mapped_NC = torch.cat([model.at_decision(one[None]) for one in grown.left_out(solution, chosen)])
        truth_NC = torch.stack([grown.target(grown.known[key].classes) for key in chosen])
        groups.append((mapped_NC, truth_NC))
    temperature = _temperature(model, groups[0])
    losses = [_losses(model, mapped / temperature, truth) for mapped, truth in groups]
    right = [_right(model, mapped, truth) for mapped, truth in groups]
    return WeightTrial(weight, losses[0], losses[1], right[0], right[1])


def _temperature(model: ClosedFormModel, usual: tuple[Tensor, Tensor]) -> float:
    """The one that fits usual images; a tagger's sigmoids are steep enough by half."""
    if not isinstance(model, ClassifyModel):
        return 0.1
    head = model.config.head.build(groups=model.groups, classes=usual[1].shape[1])
    head.calibrate(usual[0], usual[1].argmax(1))
    return float(head.temperature)


def _losses(model: ClosedFormModel, logits_NC: Tensor, truth_NC: Tensor) -> float:
    if isinstance(model, ClassifyModel):
        return float(nn.functional.cross_entropy(logits_NC, truth_NC))
    return float(nn.functional.binary_cross_entropy_with_logits(logits_NC - 5.0, truth_NC))


def _right(model: ClosedFormModel, mapped_NC: Tensor, truth_NC: Tensor) -> float:
    if isinstance(model, ClassifyModel):
        return float((mapped_NC.argmax(1) == truth_NC.argmax(1)).double().mean())
    return float(((mapped_NC > 0.5) == truth_NC.bool()).all(1).double().mean())
