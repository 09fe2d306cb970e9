"""The student while it learns: its network and head, and linear maps from its features to the teacher's.

Features as in Proteus (arXiv 2407.10366: class token, mean and patches; without its masked term), similarities between
the patches of an image, and the task's own decisions. Heads and maps start in closed form from what the student's
network says as it was built, so that the first step has nothing wild to mend.

Shapes: B images, D channels, h×w a grid, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from pangu_cv.distill.affine import affine
from pangu_cv.distill.decisions import Said, apart, say
from pangu_cv.distill.memory import Taught, as_float
from pangu_cv.models.backbone import BackboneFeatures
from pangu_cv.settings import Settings
from pangu_cv.tasks import TaskModel

Weight = Annotated[float, Field(ge=0)]
_SAMPLE = 4000  # cells that a map is started from


class LossConfig(Settings):
    """What the student is asked for; a weight of 0 leaves a part out."""

    features: Weight = 1.0
    """Pooled vector and grids of the levels the task reads."""
    similarity: Weight = 1.0
    """Which patches of an image are alike."""
    decisions: Weight = 1.0
    """What the head says."""

    @model_validator(mode="after")
    def _something_is_taught(self) -> Self:
        if not (self.features or self.similarity or self.decisions):
            raise ValueError("all weights are 0, so that nothing is taught; give one above 0")
        return self


@dataclass(frozen=True)
class Scale:
    """Mean and deviation per channel of the teacher's parts, so that no channel shouts: [D] each."""

    mean: tuple[Tensor, ...]
    deviation: tuple[Tensor, ...]

    @classmethod
    def of(cls, taught: Taught) -> "Scale":
        """From some rows."""
        parts = [taught.vector_BD, *(grid.transpose(0, 1).flatten(1).T for grid in taught.grids_BDhw)]
        deviations = [part.std(0) for part in parts]
        return cls(tuple(p.mean(0) for p in parts), tuple(d + 0.1 * d.median() + 1e-6 for d in deviations))

    def standard(self, taught: Taught) -> tuple[Tensor, ...]:
        """Vector [B,D] and grids [B,D,h,w], standardised."""
        scaled = [(taught.vector_BD - self.mean[0]) / self.deviation[0]]
        for grid, mean, deviation in zip(taught.grids_BDhw, self.mean[1:], self.deviation[1:], strict=True):
            scaled.append((grid - mean[:, None, None]) / deviation[:, None, None])
        return tuple(scaled)


class Pupil(nn.Module):
    """What is trained; ``settle`` leaves the plain model."""

    def __init__(self, model: TaskModel, scale: Scale, config: LossConfig) -> None:
        super().__init__()
        self.model, self.scale, self.config = model, scale, config
        self.backbone = model.backbone
        self.reads_vector = model.config.kind in ("classify", "multilabel")
        own: Any = model
        self.head: nn.Module | None = None
        if model.config.kind != "anomaly":
            self.head = own.head.learnable() if self.reads_vector else own.head
        self.maps = nn.ModuleList()

    def train(self, mode: bool = True) -> "Pupil":
        """A network that was pretrained keeps its statistics; one from scratch has none yet."""
        super().train(mode)
        if self.backbone.config.weights != "random" or hasattr(self.backbone.network, "num_prefix_tokens"):
            self.backbone.eval()
        return self

    def see(self, prepared_B3SS: Tensor) -> BackboneFeatures:
        """What its network says."""
        return as_float(self.backbone(prepared_B3SS))

    def say(self, features: BackboneFeatures, prepared_B3SS: Tensor) -> Said:
        """What its head says."""
        return say(self.model, features, prepared_B3SS, self.head if self.reads_vector else None)

    @torch.no_grad()
    def start(self, features: BackboneFeatures, taught: Taught) -> None:
        """The maps in closed form, from some images."""
        mine = [features.vector_BD, *features.grids_BDhw]
        self.maps = nn.ModuleList()
        for own, aim in zip(mine, self.scale.standard(taught), strict=True):
            x, y = _rows(own, like=aim), _rows(aim, like=aim)
            layer = nn.Linear(x.shape[1], y.shape[1])
            weight, bias = affine(x, y)
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
            self.maps.append(layer)

    def losses(self, features: BackboneFeatures, prepared_B3SS: Tensor, taught: Taught) -> dict[str, Tensor]:
        """Weighted, by name; features in shares of the teacher's variance."""
        found: dict[str, Tensor] = {}
        config, aims = self.config, self.scale.standard(taught)
        grids = [
            (_map(layer, resized(grid, aim.shape[-2:])) - aim).square().mean()
            for layer, grid, aim in zip(list(self.maps)[1:], features.grids_BDhw, aims[1:], strict=True)
        ]
        if config.features:
            found["grids"] = config.features * torch.stack(grids).mean()
            if self.reads_vector:
                error = (self.maps[0](features.vector_BD) - aims[0]).square().mean()
                found["vector"] = config.features * error
        if config.similarity:
            found["similarity"] = config.similarity * unlike(features.grids_BDhw[-1], taught.grids_BDhw[-1])
        if config.decisions and taught.said:
            said = self.say(features, prepared_B3SS)
            found["decisions"] = config.decisions * apart(self.model.config.kind, said, taught.said)
        return found

    def settle(self) -> TaskModel:
        """The plain model with what was learnt."""
        own: Any = self.model
        if self.reads_vector:
            own.head.settle(self.head)
        self.model.requires_grad_(False)
        return self.model.eval()


def unlike(own_BDhw: Tensor, aim_BDhw: Tensor) -> Tensor:
    """How much the cosines between the patches of an image differ, in shares of the teacher's own spread of them."""
    size = min(own_BDhw.shape[-1], aim_BDhw.shape[-1], 14)
    own, aim = (_cosines(nn.functional.adaptive_avg_pool2d(grid, size)) for grid in (own_BDhw, aim_BDhw))
    return (own - aim).square().mean() / aim.var().clamp(min=1e-4)


def _cosines(grid_BDhw: Tensor) -> Tensor:
    patches = grid_BDhw.flatten(2).transpose(1, 2)
    unit = nn.functional.normalize(patches - patches.mean(1, keepdim=True), dim=2)
    return unit @ unit.transpose(1, 2)


def resized(grid_BDhw: Tensor, size: Sequence[int]) -> Tensor:
    """A grid on another one's cells."""
    if tuple(grid_BDhw.shape[-2:]) == tuple(size):
        return grid_BDhw
    return nn.functional.interpolate(grid_BDhw, size=tuple(size), mode="bilinear", align_corners=False)


def _map(layer: nn.Module, grid_BDhw: Tensor) -> Tensor:
    return cast(Tensor, layer(grid_BDhw.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


def _rows(part: Tensor, *, like: Tensor) -> Tensor:
    """A vector's or grid's channels, a row per image or cell of the teacher's grid; not all cells of many."""
    if part.ndim == 2:
        return part
    rows = resized(part, like.shape[-2:]).permute(0, 2, 3, 1).flatten(0, 2)
    return rows[:: max(1, len(rows) // _SAMPLE)]
