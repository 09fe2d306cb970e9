"""What a task's head says before its decision, and how far a student's word is from the teacher's.

Shapes: B images, C classes, P places of a detector, s cells a side, S pixels a side.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pangu_cv.models.backbone import BackboneFeatures
from pangu_cv.models.pyramid import STRIDES
from pangu_cv.tasks import TaskModel
from pangu_cv.tasks.viewed import pooled

Said = tuple[Tensor, ...]


def say(model: TaskModel, features: BackboneFeatures, prepared_B3SS: Tensor, head: nn.Module | None = None) -> Said:
    """Logits (and boxes); nothing for anomalies, whose decision lies in the features. ``head`` stands in for its own.

    Boxes are in shares of the side, so that networks of different sizes can be compared.
    """
    own: Any = model
    kind = model.config.kind
    if kind in ("classify", "multilabel"):
        vector_BD = torch.cat(pooled(features), 1)
        return (head(vector_BD) if head is not None else own.head(vector_BD[:, None]),)
    if kind == "segment":
        return (own.head(prepared_B3SS, features.grids_BDhw),)
    if kind == "detect":
        dense = own.head(prepared_B3SS, features.grids_BDhw)
        return dense.logits_BPC, dense.boxes_BP4 / prepared_B3SS.shape[-1]
    return ()


def apart(kind: str, student: Said, teacher: Said) -> Tensor:
    """How far the student's word is from the teacher's: 0 where they say the same."""
    return _APART[kind](student, teacher)


def _one_class(student: Said, teacher: Said) -> Tensor:
    return _divergence(student[0], teacher[0]).mean()


def _tags(student: Said, teacher: Said) -> Tensor:
    return _binary(student[0], teacher[0]).sum(1).mean()


def _pixels(student: Said, teacher: Said) -> Tensor:
    """Over the teacher's pixels, those of its rarer classes for as much as the background."""
    size = teacher[0].shape[-2:]
    logits = nn.functional.interpolate(student[0].float(), size=size, mode="bilinear", align_corners=False)
    divergence = _divergence(logits, teacher[0])
    front = 1 - teacher[0].softmax(1)[:, 0]
    return divergence.mean() + (divergence * front).sum() / front.sum().clamp(min=1)


def _boxes(student: Said, teacher: Said) -> Tensor:
    """Scores by how wrong they are (the way of quality focal loss, 2006.04388), boxes where the teacher sees one."""
    logits, boxes = (_at_places(part, like=own) for part, own in zip(teacher, student, strict=True))
    sure = logits.sigmoid()
    weight = sure.amax(-1)
    wrong = (student[0].sigmoid() - sure).detach().square()
    score = (wrong * _binary(student[0], logits)).sum() / weight.sum().clamp(min=1)
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-3).repeat(1, 1, 2)
    sides = ((student[1] - boxes).abs() / size).mean(-1)
    return 20 * score + (sides.clamp(max=4) * weight).sum() / weight.sum().clamp(min=1)


def _at_places(said_BPX: Tensor, *, like: Tensor) -> Tensor:
    """What was said at the places of one input size, at those of another."""
    if said_BPX.shape[1] == like.shape[1]:
        return said_BPX
    mine, others = _sides(said_BPX.shape[1]), _sides(like.shape[1])
    levels = []
    for level, own, other in zip(torch.split(said_BPX, [s * s for s in mine], 1), mine, others, strict=True):
        grid = level.transpose(1, 2).reshape(len(level), -1, own, own)
        grid = nn.functional.interpolate(grid, size=(other, other), mode="bilinear", align_corners=False)
        levels.append(grid.flatten(2).transpose(1, 2))
    return torch.cat(levels, 1)


def _sides(places: int) -> list[int]:
    """Cells a side of every level of a detector with so many places: a quarter as many from level to level."""
    steps = [STRIDES[-1] // stride for stride in STRIDES]
    coarse = round((places / sum(step * step for step in steps)) ** 0.5)
    return [coarse * step for step in steps]


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler of class distributions, for each image or pixel."""
    sure = teacher.log_softmax(1)
    return (sure.exp() * (sure - student.float().log_softmax(1))).sum(1)


def _binary(student: Tensor, teacher: Tensor) -> Tensor:
    """The same of yes and no, elementwise."""
    share = teacher.sigmoid()
    loss = nn.functional.binary_cross_entropy_with_logits
    return loss(student.float(), share, reduction="none") - loss(teacher, share, reduction="none")


def _nothing(student: Said, teacher: Said) -> Tensor:
    return torch.zeros(())


_APART: dict[str, Callable[[Said, Said], Tensor]] = {
    "classify": _one_class,
    "multilabel": _tags,
    "segment": _pixels,
    "detect": _boxes,
    "anomaly": _nothing,
}
