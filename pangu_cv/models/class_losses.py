"""Losses for classes of very different frequency.

Plain cross-entropy learns mostly what is common. Each of these lets the rare classes speak: by their prior (logit
adjustment), by weight (class-balanced), or by sparing them the pressure of being a negative (Seesaw, ACSL).

Shapes: B images, C classes; ``counts`` are the labelled images of each class.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pangu_cv.settings import Settings

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits float32[B,C] and labels int64[B] to a mean loss."""
Smoothing = Annotated[float, Field(ge=0, lt=0.5)]


class CrossEntropy(Settings):
    """Softmax cross-entropy; every image counts alike."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    """The loss."""
    smoothing: Smoothing = 0.05
    """Share of a label that is spread over all classes; keeps a few images from being learnt as certainty."""

    def build(self, counts: Sequence[int]) -> Loss:
        """The loss."""
        return lambda logits, labels: nn.functional.cross_entropy(logits, labels, label_smoothing=self.smoothing)


class LogitAdjusted(Settings):
    """Cross-entropy with the classes' log frequency added to the logits in training alone (arXiv 2007.07314).

    Labels are smoothed towards the prior that is added: spread evenly, the share of a rare class would be worth so much
    beside its prior that images of a common one, 40 to 1, were taught to be called rare. Where all classes have as many
    images it is plain cross-entropy.
    """

    kind: Literal["logit_adjusted"] = "logit_adjusted"
    """The loss."""
    strength: Annotated[float, Field(ge=0, le=2)] = 1.0
    """How far the frequencies are made up for; 1 aims at balanced accuracy."""
    smoothing: Smoothing = 0.05
    """As in cross_entropy."""

    def build(self, counts: Sequence[int]) -> Loss:
        """The loss."""
        prior_C = self.strength * _share(counts).log()

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            prior = prior_C.to(logits.device)
            own = nn.functional.one_hot(labels, len(prior)).to(prior.dtype)
            target = own + self.smoothing * (prior.softmax(0) - own)
            return nn.functional.cross_entropy(logits + prior, target)

        return loss


class ClassBalanced(Settings):
    """Cross-entropy weighted by the inverse effective number of images of a class (arXiv 1901.05555)."""

    kind: Literal["class_balanced"] = "class_balanced"
    """The loss."""
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """0 weighs all classes alike; towards 1 by the inverse number of images."""
    smoothing: Smoothing = 0.05
    """As in cross_entropy."""

    def weights(self, counts: Sequence[int]) -> Tensor:
        """Of the classes, float32[C], with mean 1."""
        number = torch.tensor(counts, dtype=torch.float32).clamp(min=1)
        weight: Tensor = (1 - self.beta) / (1 - self.beta**number)
        return weight * len(counts) / weight.sum()

    def build(self, counts: Sequence[int]) -> Loss:
        """The loss."""
        weight_C = self.weights(counts)

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            # By the image's own class: torch would weigh what smoothing spreads by the class that it goes to.
            weight = weight_C.to(logits.device)[labels]
            each = nn.functional.cross_entropy(logits, labels, label_smoothing=self.smoothing, reduction="none")
            return (weight * each).sum() / weight.sum()

        return loss


class Seesaw(Settings):
    """Cross-entropy in which a rare class is pushed down less by images of a common one (arXiv 2008.10032)."""

    kind: Literal["seesaw"] = "seesaw"
    """The loss."""
    mitigation: Annotated[float, Field(ge=0)] = 0.8
    """Power of the ratio of frequencies by which the push is weakened."""
    compensation: Annotated[float, Field(ge=0)] = 2.0
    """Power of the ratio of scores by which a wrong answer's push is restored."""

    def build(self, counts: Sequence[int]) -> Loss:
        """The loss."""
        number = torch.tensor(counts, dtype=torch.float32).clamp(min=1)
        # Row: the true class, column: the class pushed down.
        mitigated_CC = self.mitigation * (number[None, :] / number[:, None]).clamp(max=1).log()

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            scores = logits.detach().log_softmax(1)
            ratio = (scores - scores.gather(1, labels[:, None])).clamp(min=0)
            factor = mitigated_CC.to(logits.device)[labels] + self.compensation * ratio
            own = nn.functional.one_hot(labels, logits.shape[1]).bool()
            return nn.functional.cross_entropy(logits + factor.masked_fill(own, 0.0), labels)

        return loss


class Acsl(Settings):
    """One sigmoid a class; a class is told "not me" only where it is mistaken for the true one (arXiv 2104.00885)."""

    kind: Literal["acsl"] = "acsl"
    """The loss."""
    limit: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Score from which a wrong class is pushed down."""

    def build(self, counts: Sequence[int]) -> Loss:
        """The loss; frequencies are not asked for: what is confused decides."""

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            own = nn.functional.one_hot(labels, logits.shape[1]).float()
            counted = torch.maximum(own, (logits.detach().sigmoid() >= self.limit).float())
            each = nn.functional.binary_cross_entropy_with_logits(logits, own, reduction="none")
            return (each * counted).sum(1).mean()

        return loss


ClassLoss = Annotated[
    CrossEntropy | LogitAdjusted | ClassBalanced | Seesaw | Acsl,
    Field(discriminator="kind"),
]


def _share(counts: Sequence[int]) -> Tensor:
    number = torch.tensor(counts, dtype=torch.float32).clamp(min=1)
    return number / number.sum()
