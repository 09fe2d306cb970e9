"""A linear map with a closed form: ridge regression on normalised features, and what each image gets when left out.

Shapes: N labelled images, V views of each, P views of all, D features, C outputs; U groups of G images each.
"""

import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from pangu_cv.models.ridge_memory import RidgeMemory, RidgeSolution
from pangu_cv.settings import Settings

_AT_ONCE = 1024  # images, or rows, in float64 at a time: thousands of images would take gigabytes


class RidgeConfig(Settings):
    """Regularised least squares (Rifkin, Yeo and Poggio 2003)."""

    penalty: Annotated[float, Field(gt=0)] = 0.3
    """Ridge penalty for features of unit length; more of it draws the head towards class means."""
    deviation_floor: Annotated[float, Field(ge=0)] = 1.0
    """Added to each feature's deviation, in multiples of the group's median, so that rare features do not shout."""


class Statistics(NamedTuple):
    """What features are standardised by."""

    mean_D: Tensor
    scale_D: Tensor


def unit(standard: Tensor, groups: Sequence[int]) -> Tensor:
    """Each group of standardised features scaled to the same length, all of them together to length 1."""
    parts = [nn.functional.normalize(part, dim=-1) for part in torch.split(standard, list(groups), dim=-1)]
    return torch.cat(parts, -1) / math.sqrt(len(groups))


class RidgeMap(nn.Module):
    """Standardise, scale each group to unit length, average the views, map linearly."""

    mean_D: Tensor
    scale_D: Tensor
    weight_CD: Tensor
    bias_C: Tensor

    def __init__(self, config: RidgeConfig, *, groups: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.config = config
        self.groups = list(groups)
        features = sum(groups)
        self.register_buffer("mean_D", torch.zeros(features))
        self.register_buffer("scale_D", torch.ones(features))
        self.register_buffer("weight_CD", torch.zeros(outputs, features))
        self.register_buffer("bias_C", torch.zeros(outputs))

    def mapped(self, features_BVD: Tensor) -> Tensor:
        """Outputs float32[B,C], about 0 where a target was 0 and about 1 where it was 1."""
        return self.normalised(features_BVD).mean(1) @ self.weight_CD.T + self.bias_C

    def normalised(self, features: Tensor, statistics: "Statistics | None" = None) -> Tensor:
        """What is mapped linearly: standardised, each group of unit length; [...,D].

        By the map's own statistics (float32, as the graph computes), or by others in their precision.
        """
        mean_D, scale_D = (self.mean_D, self.scale_D) if statistics is None else statistics
        return unit((features - mean_D) / scale_D, self.groups)

    def statistics(self, features: Tensor, weight_P: Tensor | None = None) -> "Statistics":
        """Mean and scale of each feature over all P rows of [...,D], float64; rows weigh alike unless told."""
        x = features.flatten(0, -2)
        share_P = torch.ones(len(x), dtype=torch.float64) if weight_P is None else weight_P.double()
        share_P = share_P / share_P.sum()
        blocks = [slice(start, start + _AT_ONCE) for start in range(0, len(x), _AT_ONCE)]
        mean_D = torch.stack([share_P[block] @ x[block].double() for block in blocks]).sum(0)
        squares = [share_P[block] @ (x[block].double() - mean_D).square() for block in blocks]
        return Statistics(mean_D, self._scale(torch.stack(squares).sum(0).sqrt()))

    def solved(self, memory: RidgeMemory) -> RidgeSolution:
        """What this map is, fitted to all that a memory has learnt."""
        return memory.solve(self.config.penalty)

    @torch.no_grad()
    def take(self, statistics: "Statistics", weight_DC: Tensor, bias_C: Tensor) -> None:
        """Install what was solved elsewhere, for as many outputs as there are."""
        self.mean_D.copy_(statistics.mean_D)
        self.scale_D.copy_(statistics.scale_D)
        self.weight_CD.copy_(weight_DC.T)
        self.bias_C.copy_(bias_C)

    def _scale(self, deviation_D: Tensor) -> Tensor:
        medians = [part.median().expand(len(part)) for part in torch.split(deviation_D, self.groups)]
        return deviation_D + self.config.deviation_floor * torch.cat(medians) + 1e-6

    @torch.no_grad()
    def solve(self, features_NVD: Tensor, targets_NC: Tensor, kin: Sequence[str] | None = None) -> Tensor:
        """Fit to N images seen in V views each; a view counts as an image of its own, so the map learns to ignore it.

        Statistics and weights come from these images alone (inductive). Beside the features memory grows with those of
        the largest group at most. Returns what each view of each image gets from the ridge fitted without that image,
        and without those that share its name in ``kin``: float64[N,V,C], 0 where no image is left.
        """
        images, views, features = features_NVD.shape
        statistics = self.statistics(features_NVD)
        memory = RidgeMemory.empty(features=features, outputs=targets_NC.shape[1])

        def seen(images_UG: Tensor) -> tuple[Tensor, Tensor]:
            """Rows float64[U,GV,D] and targets [U,GV,C] of some images."""
            rows = self.normalised(features_NVD[images_UG].double(), statistics)
            return rows.flatten(1, 2), targets_NC[images_UG].double().repeat_interleave(views, 1)

        for part in torch.split(torch.arange(images), _AT_ONCE):
            rows, targets = seen(part[:, None])
            memory = memory.add(rows.flatten(0, 1), targets.flatten(0, 1))
        solution = memory.solve(self.config.penalty)
        self.take(statistics, solution.weight_DC, solution.bias_C)
        left_out_NVC = torch.zeros(images, views, targets_NC.shape[1], dtype=torch.float64)
        for images_UG in left_out_together(kin or [str(number) for number in range(images)]):
            size = images_UG.shape[1]
            is_large = features < size * views < images * views
            for part_UG in torch.split(images_UG, 1 if is_large else max(1, _AT_ONCE // size)):
                rows, targets = seen(part_UG)
                found = self._solved_without(memory, rows, targets) if is_large else solution.left_out(rows, targets)
                left_out_NVC[part_UG] = found.view(*part_UG.shape, views, -1)
        return left_out_NVC

    def _solved_without(self, memory: RidgeMemory, rows_1PD: Tensor, targets_1PC: Tensor) -> Tensor:
        """What rows get from the ridge on all others, float64[1,P,C]: in memory of D² numbers and not of P²."""
        part = RidgeMemory.empty(features=rows_1PD.shape[2], outputs=targets_1PC.shape[2])
        rest = memory.without(part.add(rows_1PD[0], targets_1PC[0])).solve(self.config.penalty)
        return rows_1PD @ rest.weight_DC + rest.bias_C


class LearnableMap(nn.Module):
    """A fitted head's outputs, with a map that learns; the statistics of the features stay as they were fitted."""

    def __init__(self, head: RidgeMap, *, slope_C: Tensor, offset_C: Tensor) -> None:
        """Outputs start at ``slope_C`` times the head's map, plus ``offset_C``."""
        super().__init__()
        self.fixed = head
        self.weight = nn.Parameter(head.weight_CD * slope_C.reshape(-1, 1))
        self.bias = nn.Parameter(head.bias_C * slope_C + offset_C)

    def forward(self, features_BD: Tensor) -> Tensor:
        """float32[B,C] of one view."""
        return self.fixed.normalised(features_BD) @ self.weight.T + self.bias

    @torch.no_grad()
    def settle(self) -> None:
        """Put what was learnt into the head."""
        self.fixed.weight_CD.copy_(self.weight)
        self.fixed.bias_C.copy_(self.bias)


def left_out_together(kin: Sequence[str]) -> list[Tensor]:
    """Images of one name, which are left out together: int64[U,G] for every size G that there is."""
    images_of: dict[str, list[int]] = {}
    for image, name in enumerate(kin):
        images_of.setdefault(name, []).append(image)
    of_size: dict[int, list[list[int]]] = {}
    for images in images_of.values():
        of_size.setdefault(len(images), []).append(images)
    return [torch.tensor(groups) for groups in of_size.values()]
