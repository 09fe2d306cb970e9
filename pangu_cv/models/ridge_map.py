"""A linear map with a closed form: ridge regression on normalised features, and what each image gets when left out.

Shapes: N labelled images, V views of each, P views of all, D features, C outputs; U groups of S views each.
"""

import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from pangu_cv.models.ridge_memory import RidgeMemory, RidgeSolution
from pangu_cv.settings import Settings


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
        x = features.double().flatten(0, -2)
        if weight_P is None:
            return Statistics(x.mean(0), self._scale(x.std(0, unbiased=False)))
        share_P = weight_P.double() / weight_P.double().sum()
        mean_D = share_P @ x
        return Statistics(mean_D, self._scale((share_P @ (x - mean_D).square()).sqrt()))

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

        Statistics and weights come from these images alone (inductive). Solved in float64, in the dual where there are
        fewer views than features and in the primal otherwise: time and memory grow with N then, and memory with the
        square of the largest group. Returns what each view
        of each image gets from the ridge fitted without that image, and without those that share its name in ``kin``:
        float64[N,V,C], 0 where no image is left.
        """
        images, views, _ = features_NVD.shape
        statistics = self.statistics(features_NVD)
        unit = self.normalised(features_NVD.double().flatten(0, 1), statistics)
        targets = targets_NC.double().repeat_interleave(views, 0)

        centre_D, base_C = unit.mean(0), targets.mean(0)
        centred = unit - centre_D
        is_dual = len(centred) <= centred.shape[1]
        solved = _dual if is_dual else _primal
        blocks = left_out_together(kin or [str(number) for number in range(images)], views=views)
        weight_DC, hats = solved(centred, targets - base_C, self.config.penalty, blocks)

        self.take(statistics, weight_DC, base_C - centre_D @ weight_DC)
        fitted = centred @ weight_DC + base_C
        left_out = torch.zeros_like(targets)
        for rows_US, hat_USS in zip(blocks, hats, strict=True):
            if rows_US.shape[1] < len(centred):
                kept_USS = torch.eye(rows_US.shape[1], dtype=hat_USS.dtype) - hat_USS - 1 / len(centred)  # intercept
                left_out[rows_US] = targets[rows_US] - torch.linalg.solve(kept_USS, (targets - fitted)[rows_US])
        return left_out.view(images, views, -1)


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


def left_out_together(kin: Sequence[str], *, views: int) -> list[Tensor]:
    """Views of the images of one name, which are left out together: int64[U,S] for every size S that there is."""
    images_of: dict[str, list[int]] = {}
    for image, name in enumerate(kin):
        images_of.setdefault(name, []).append(image)
    of_size: dict[int, list[list[int]]] = {}
    for images in images_of.values():
        of_size.setdefault(len(images), []).append(images)
    views_NV = torch.arange(len(kin) * views).view(len(kin), views)
    return [views_NV[torch.tensor(groups)].flatten(1) for groups in of_size.values()]


def _dual(x: Tensor, targets: Tensor, penalty: float, blocks: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Weights [D,C], and blocks [U,S,S] of the hat matrix, from the products of all views."""
    gram = x @ x.T
    ridged = gram + penalty * torch.eye(len(gram), dtype=gram.dtype)
    hat = torch.linalg.solve(ridged, gram)
    own = [hat[rows_US[:, :, None], rows_US[:, None, :]] for rows_US in blocks]
    return x.T @ torch.linalg.solve(ridged, targets), own


def _primal(x: Tensor, targets: Tensor, penalty: float, blocks: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The same from the products of all features."""
    factor = torch.linalg.cholesky(x.T @ x + penalty * torch.eye(x.shape[1], dtype=x.dtype))
    weight_DC = torch.cholesky_solve(x.T @ targets, factor)
    half = torch.linalg.solve_triangular(factor, x.T, upper=False).T
    return weight_DC, [half[rows_US] @ half[rows_US].transpose(1, 2) for rows_US in blocks]
