"""A smaller network under the teacher's task: which levels it is read at, and a head that fits it.

Shapes: B images, D channels of a grid, C classes.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from pangu_cv.distill.affine import affine
from pangu_cv.distill.decisions import say
from pangu_cv.distill.memory import Taught
from pangu_cv.distill.pupil import resized
from pangu_cv.models.backbone import Backbone, BackboneConfig, BackboneFeatures
from pangu_cv.models.box_head import Prototypes, stacked
from pangu_cv.models.pyramid import STRIDES
from pangu_cv.tasks import TaskModel
from pangu_cv.tasks.viewed import pooled

_MULTIPLES = {"detect": STRIDES[-1], "segment": 8}


def read_depth(teacher: TaskModel) -> int:
    """How many of a ViT's blocks the task reads: what lies beyond the deepest level is no part of its decision."""
    blocks = len(teacher.backbone.network.blocks)
    return blocks if teacher.config.kind in ("classify", "multilabel") else max(teacher.backbone.indices) + 1


def student_levels(teacher: TaskModel) -> tuple[int, ...]:
    """The levels of a sub-model, in fifths of its depth, where the teacher is read in fifths of what is read of it."""
    depth = read_depth(teacher)
    levels = [max(0, round(5 * (index + 1) / depth) - 1) for index in teacher.backbone.indices]
    for at in range(len(levels) - 2, -1, -1):
        levels[at] = min(levels[at], levels[at + 1] - 1)
    return tuple(levels)


def side_multiple(teacher: TaskModel) -> int:
    """What the head needs the side to be a multiple of."""
    return _MULTIPLES.get(teacher.config.kind, 1)


def with_network(teacher: TaskModel, network: Backbone | BackboneConfig, *, image_px: int) -> TaskModel:
    """The teacher's task on another network; the head is not fitted yet. Raises SettingsError where it does not fit."""
    config = network.config if isinstance(network, Backbone) else network
    config = config.model_copy(update={"weights": "random"}) if isinstance(network, Backbone) else config
    own: Any = teacher.config
    preprocess = own.preprocess.model_copy(update={"image_px": image_px})
    task = own.model_copy(update={"backbone": config, "preprocess": preprocess})
    classes = getattr(teacher, "classes", None)
    model: TaskModel = task.build() if classes is None else task.build(classes)
    if isinstance(network, Backbone):
        model.backbone.network.load_state_dict(network.network.state_dict())
    return model


@torch.no_grad()
def fit_head(
    model: TaskModel, teacher: TaskModel, features: BackboneFeatures, taught: Taught, prepared_B3SS: Tensor
) -> None:
    """The student's head in closed form from what the teacher says of some images."""
    own: Any = model
    taught_by: Any = teacher
    kind = model.config.kind
    if kind in ("classify", "multilabel"):
        own.head.load_state_dict(
            {n: v for n, v in taught_by.head.state_dict().items() if v.shape == own.head.state_dict()[n].shape},
            strict=False,
        )
        own.head.solve(torch.cat(pooled(features), 1)[:, None], _mapped(taught_by.head, taught.said[0]))
        own.threshold.copy_(taught_by.threshold)
    elif kind in ("detect", "segment"):
        _carry_over(own.head, taught_by.head, features, taught)
        if kind == "detect":
            own.threshold.copy_(taught_by.threshold)
            own.head.size_px.mul_(model.config.preprocess.image_px / teacher.config.preprocess.image_px)
    say(model, features, prepared_B3SS)  # a head that does not fit fails here, not after an hour


def _mapped(head: Any, logits_NC: Tensor) -> Tensor:
    """What the head's linear map said, before temperature or sigmoid."""
    if hasattr(head, "temperature"):
        return logits_NC * cast(Tensor, head.temperature)
    return (logits_NC - cast(Tensor, head.offset_C)) / cast(Tensor, head.slope_C)


def _carry_over(own: Any, old: Any, features: BackboneFeatures, taught: Taught) -> None:
    """A dense head's layers as they are; those that read the network are solved anew for the student's grids."""
    state, mine = old.state_dict(), own.state_dict()
    own.load_state_dict({n: v for n, v in state.items() if v.shape == mine[n].shape}, strict=False)
    pairs: Any = getattr(own, "pyramid", own).project, getattr(old, "pyramid", old).project
    for layer, before, grid, aim in zip(*pairs, features.grids_BDhw, taught.grids_BDhw, strict=True):
        _solve_convolution(layer[1], layer[0](grid), before(aim))
    if hasattr(own, "prototypes"):
        said = old.prototypes.scores(taught.grids_BDhw)
        x = stacked(features.grids_BDhw)
        weight, bias = _solved(x, resized(said, x.shape[-2:]))
        own.install(Prototypes(weight, bias, torch.zeros(weight.shape[1]), torch.ones(weight.shape[1])))


def _solve_convolution(layer: nn.Conv2d, given: Tensor, aim: Tensor) -> None:
    weight, bias = _solved(given, resized(aim, given.shape[-2:]))
    layer.weight.copy_(weight[:, :, None, None])
    assert layer.bias is not None
    layer.bias.copy_(bias)


def _solved(given_BDhw: Tensor, aim_BChw: Tensor) -> tuple[Tensor, Tensor]:
    return affine(given_BDhw.permute(0, 2, 3, 1).flatten(0, 2), aim_BChw.permute(0, 2, 3, 1).flatten(0, 2))
