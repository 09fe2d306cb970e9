"""A linear few-shot head with a closed form: ridge regression on normalised features, temperature by leave-one-out.

Shapes: N labelled images, V views of each, D features, C classes.
"""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from pangu_cv.settings import Settings

# Where leave-one-out cannot speak (one image per class); about what it gives at 2 shots on the validation pools.
FALLBACK_TEMPERATURE = 0.1
_TEMPERATURES = torch.logspace(-2.5, 1, 141, dtype=torch.float64)


class RidgeHeadConfig(Settings):
    """Ridge regression to one-hot targets (regularised least squares; Rifkin, Yeo and Poggio 2003)."""

    penalty: Annotated[float, Field(gt=0)] = 0.3
    """Ridge penalty for features of unit length; more of it draws the head towards class means."""
    deviation_floor: Annotated[float, Field(ge=0)] = 1.0
    """Added to each feature's deviation, in multiples of the group's median, so that rare features do not shout."""

    def build(self, *, groups: Sequence[int], classes: int) -> "RidgeHead":
        """An unfitted head for features in ``groups``: sizes of the parts, one per level and statistic."""
        return RidgeHead(self, groups=groups, classes=classes)


class RidgeHead(nn.Module):
    """Standardise, scale each group to unit length, average the views, map linearly, divide by a temperature."""

    mean_D: Tensor
    scale_D: Tensor
    weight_CD: Tensor
    bias_C: Tensor
    temperature: Tensor

    def __init__(self, config: RidgeHeadConfig, *, groups: Sequence[int], classes: int) -> None:
        super().__init__()
        self.config = config
        self.groups = list(groups)
        features = sum(groups)
        self.register_buffer("mean_D", torch.zeros(features))
        self.register_buffer("scale_D", torch.ones(features))
        self.register_buffer("weight_CD", torch.zeros(classes, features))
        self.register_buffer("bias_C", torch.zeros(classes))
        self.register_buffer("temperature", torch.tensor(FALLBACK_TEMPERATURE))

    def forward(self, features_BVD: Tensor) -> Tensor:
        """Logits float32[B,C] whose softmax is calibrated."""
        unit_BVD = self._unit((features_BVD - self.mean_D) / self.scale_D)
        return (unit_BVD.mean(1) @ self.weight_CD.T + self.bias_C) / self.temperature

    def _unit(self, standard: Tensor) -> Tensor:
        parts = [nn.functional.normalize(part, dim=-1) for part in torch.split(standard, self.groups, dim=-1)]
        return torch.cat(parts, -1) / math.sqrt(len(self.groups))

    def _scale(self, deviation_D: Tensor) -> Tensor:
        medians = [part.median().expand(len(part)) for part in torch.split(deviation_D, self.groups)]
        return deviation_D + self.config.deviation_floor * torch.cat(medians) + 1e-6

    @torch.no_grad()
    def fit(self, features_NVD: Tensor, labels_N: Tensor) -> None:
        """Fit to N images seen in V views each; a view counts as an image of its own, so the head learns to ignore it.

        Statistics, weights and temperature come from these images alone (inductive). Solved in float64 in the dual, in
        O((NV)^2 D) time; the temperature minimises the leave-one-image-out negative log-likelihood.
        """
        images, views, _ = features_NVD.shape
        x = features_NVD.double().flatten(0, 1)
        mean_D, scale_D = x.mean(0), self._scale(x.std(0, unbiased=False))
        unit = self._unit((x - mean_D) / scale_D)
        targets = nn.functional.one_hot(labels_N, len(self.bias_C)).double().repeat_interleave(views, 0)

        centre_D, base_C = unit.mean(0), targets.mean(0)
        centred = unit - centre_D
        gram = centred @ centred.T
        ridge = self.config.penalty * torch.eye(len(gram), dtype=torch.float64)
        dual = torch.linalg.solve(gram + ridge, targets - base_C)
        weight_DC = centred.T @ dual
        left_out_NC = _leave_one_image_out(gram, ridge, targets, images=images, views=views)

        self.mean_D.copy_(mean_D)
        self.scale_D.copy_(scale_D)
        self.weight_CD.copy_(weight_DC.T)
        self.bias_C.copy_(base_C - centre_D @ weight_DC)
        self.temperature.fill_(_best_temperature(left_out_NC, labels_N))


def _leave_one_image_out(gram: Tensor, ridge: Tensor, targets: Tensor, *, images: int, views: int) -> Tensor:
    """Predictions for each image by the ridge fitted without all its views, from one hat matrix: float64[N,C]."""
    count = len(gram)
    hat = torch.linalg.solve(gram + ridge, gram) + 1 / count  # the constant is the intercept's share
    residual = (targets - hat @ targets).view(images, views, -1)
    own = hat.view(images, views, images, views)[torch.arange(images), :, torch.arange(images), :]
    left_out_residual: Tensor = torch.linalg.solve(torch.eye(views, dtype=hat.dtype) - own, residual)
    return (targets.view(images, views, -1) - left_out_residual).mean(1)


def _best_temperature(logits_NC: Tensor, labels_N: Tensor) -> float:
    """The temperature of least negative log-likelihood over images whose class has another image; else the fallback.

    Targets are smoothed as in Platt scaling (1999), since n images without an error do not prove that there is none.
    """
    counted = torch.bincount(labels_N)[labels_N] > 1
    if not bool(counted.any()):
        return FALLBACK_TEMPERATURE
    logits, labels = logits_NC[counted], labels_N[counted]
    doubt = 1 / (len(labels) + 2)
    losses = [float(nn.functional.cross_entropy(logits / t, labels, label_smoothing=doubt)) for t in _TEMPERATURES]
    return float(_TEMPERATURES[min(range(len(losses)), key=losses.__getitem__)])
