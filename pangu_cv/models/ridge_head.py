"""A linear few-shot head for one class of several: ridge regression to one-hot targets, temperature by leave-one-out.

Shapes: N labelled images, V views of each, D features, C classes.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from pangu_cv.models.ridge_map import LearnableMap, RidgeConfig, RidgeMap
from pangu_cv.models.ridge_memory import RidgeMemory, RidgeSolution

# Where leave-one-out cannot speak (one image per class); about what it gives at 2 shots on the validation pools.
FALLBACK_TEMPERATURE = 0.1
_TEMPERATURES = torch.logspace(-2.5, 1, 141, dtype=torch.float64)


class RidgeHeadConfig(RidgeConfig):
    """Ridge regression to one-hot targets."""

    balance: Annotated[float, Field(ge=0, le=1)] = 0.25
    """How far the classes' sizes are made up for: the output of a class is multiplied by its number of images, beside
    the mean of all classes, to the power of minus this. Ours; docs/LOG.md. Classes of one size: nothing changes."""

    def factor(self, count_C: Tensor) -> Tensor:
        """Of each output, float64[C]; 1 where all classes have as many images."""
        count_C = count_C.double()
        known = count_C > 0  # an output without images is 0 anyway
        return torch.where(known, count_C / count_C[known].mean(), 1.0) ** -self.balance

    def build(self, *, groups: Sequence[int], classes: int) -> "RidgeHead":
        """An unfitted head for features in ``groups``: sizes of the parts, one per level and statistic."""
        return RidgeHead(self, groups=groups, classes=classes)


class RidgeHead(RidgeMap):
    """The map's outputs divided by a temperature."""

    config: RidgeHeadConfig
    temperature: Tensor

    def __init__(self, config: RidgeHeadConfig, *, groups: Sequence[int], classes: int) -> None:
        super().__init__(config, groups=groups, outputs=classes)
        self.register_buffer("temperature", torch.tensor(FALLBACK_TEMPERATURE))

    def forward(self, features_BVD: Tensor) -> Tensor:
        """Logits float32[B,C]; their softmax is calibrated after ``fit``, and not after ``settle``."""
        return self.mapped(features_BVD) / self.temperature

    def learnable(self) -> LearnableMap:
        """Logits that learn; call ``settle`` afterwards."""
        return LearnableMap(self, slope_C=1 / self.temperature, offset_C=torch.zeros_like(self.bias_C))

    def settle(self, learnt: LearnableMap) -> None:
        """Take what was learnt."""
        learnt.settle()
        self.temperature.fill_(1.0)

    def solved(self, memory: RidgeMemory) -> RidgeSolution:
        """What the head's map is, fitted to all that a memory has learnt."""
        solution = super().solved(memory)
        return solution.times(self.config.factor(solution.share_C))

    @torch.no_grad()
    def fit(self, features_NVD: Tensor, labels_N: Tensor, kin: Sequence[str] | None = None) -> Tensor:
        """Fit to N images seen in V views each; the temperature minimises the left-out negative log-likelihood.

        Images that share a name in ``kin`` are left out together; one that has no others in its class does not count
        there. Returns the logits of each view by the ridge fitted without its image: float64[N,V,C].
        """
        targets_NC = nn.functional.one_hot(labels_N, len(self.bias_C))
        left_out_NVC = self.solve(features_NVD, targets_NC * self.config.factor(targets_NC.sum(0)), kin)
        self.calibrate(left_out_NVC.mean(1), labels_N, kin)
        return left_out_NVC / self.temperature.double()

    @torch.no_grad()
    def fit_soft(self, features_NVD: Tensor, targets_NC: Tensor) -> Tensor:
        """The same to probabilities of the classes, each row of which sums to 1, such as another model's."""
        left_out_NVC = self.solve(features_NVD, targets_NC * self.config.factor(targets_NC.sum(0)))
        self.temperature.fill_(_best_temperature(left_out_NVC.mean(1), targets_NC.double()))
        return left_out_NVC / self.temperature.double()

    @torch.no_grad()
    def calibrate(self, left_out_NC: Tensor, labels_N: Tensor, kin: Sequence[str] | None = None) -> None:
        """Set the temperature from what images get when they are left out, those that share a name together."""
        counted_N = groups_of_class(labels_N, kin)[labels_N] > 1
        self.temperature.fill_(_best_temperature(left_out_NC[counted_N], labels_N[counted_N]))


def groups_of_class(labels_N: Tensor, kin: Sequence[str] | None, *, classes: int = 0) -> Tensor:
    """How many groups of images there are of each class, of one name in ``kin`` or of one image: int64[C]."""
    names = range(len(labels_N)) if kin is None else kin
    pairs = set(zip(labels_N.tolist(), names, strict=True))
    return torch.tensor([label for label, _ in pairs], dtype=torch.int64).bincount(minlength=classes)


def _best_temperature(logits_NC: Tensor, truth: Tensor) -> float:
    """The temperature of least negative log-likelihood of labels [N] or probabilities [N,C]; of none the fallback.

    Targets are smoothed as in Platt scaling (1999), since n images without an error do not prove that there is none.
    """
    if not len(truth):
        return FALLBACK_TEMPERATURE
    doubt = 1 / (len(truth) + 2)
    losses = [float(nn.functional.cross_entropy(logits_NC / t, truth, label_smoothing=doubt)) for t in _TEMPERATURES]
    return float(_TEMPERATURES[min(range(len(losses)), key=losses.__getitem__)])
