"""A head for mixed weights: the models' own heads averaged, or one fitted anew to what they say together.

Averaging is what soups do, and right where all models know the same classes. Where they do not, a row of a head was
never shown the other models' classes, and what it says of them is noise; there the head is fitted in closed form to the
ensemble's decisions on the images (and to labels, where there are any), all classes at once.

Shapes: M models, C classes of the union, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from pangu_cv.iterate.fuse.ensemble import Floats
from pangu_cv.iterate.fuse.gathering import Gathering
from pangu_cv.iterate.fuse.members import Member
from pangu_cv.iterate.fuse.student import State, blank, decided, fit_head, trial, worth
from pangu_cv.iterate.fuse.weights import mean
from pangu_cv.tasks.classify import ClassifyModel

HeadRule = Literal["auto", "average", "refit"]


@dataclass(frozen=True, eq=False)
class Headed:
    """A model with a head for all classes, what it says of the images (left out of its head's fit), its worth."""

    model: ClassifyModel
    scores_NC: Floats
    worth: float


def resolved(rule: HeadRule, gathering: Gathering) -> Literal["average", "refit"]:
    """The rule that ``auto`` means for these models."""
    if rule == "auto":
        return "average" if gathering.is_one_list else "refit"
    return rule


def headed(
    gathering: Gathering, backbone: State, members: Sequence[Member], rule: HeadRule, *, about: str, is_trial: bool
) -> Headed:
    """The backbone under a head of the members; a trial sees each image once where the last fit sees all views."""
    evidence = gathering.evidence
    model = blank(members[0], gathering.classes, backbone)
    if resolved(rule, gathering) == "average":
        model.head.load_state_dict(averaged(members, gathering.classes))
        scores_NC = decided(model, evidence.paths, gathering.reader, about=about).astype(float)
    else:
        fit = trial if is_trial else fit_head
        scores_NC = fit(model, evidence, gathering.beliefs_NC, gathering.reader, about=about).left_out_NC
    return Headed(model, scores_NC, worth(scores_NC, evidence, gathering.beliefs_NC))


def averaged(members: Sequence[Member], classes: Sequence[str]) -> dict[str, torch.Tensor]:
    """A ridge head whose logits are the mean of the members'; a class's row is of those that know it.

    Exact where their features are standardised alike, near it where the members saw much the same images.
    """
    heads = [member.model.head.state_dict() for member in members]
    found = mean([{name: head[name] for name in ("mean_D", "scale_D")} for head in heads])
    weight_CD = torch.zeros(len(classes), len(found["mean_D"]), dtype=torch.float64)
    bias_C = torch.zeros(len(classes), dtype=torch.float64)
    for at, name in enumerate(classes):
        rows = [
            (head["weight_CD"][place].double() / heat, head["bias_C"][place].double() / heat)
            for member, head in zip(members, heads, strict=True)
            if name in member.classes
            for place, heat in [(member.classes.index(name), head["temperature"].double())]
        ]
        if rows:
            weight_CD[at] = torch.stack([weight for weight, _ in rows]).mean(0)
            bias_C[at] = torch.stack([bias for _, bias in rows]).mean(0)
        else:
            bias_C[at] = -1e4  # nobody asked knows the class: it is never said
    one = torch.tensor(1.0)
    return found | {"weight_CD": weight_CD.float(), "bias_C": bias_C.float(), "temperature": one}
