"""From scores to probabilities of being there: a sigmoid per class, fitted to predictions that did not see their image.

Platt 1999 with his smoothed targets, by Newton's method (Lin, Lin and Weng 2007). A class with fewer than two images
on either side, or whose left-out scores say the opposite of the truth, takes the sigmoid of all classes together.

Shapes: N images, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_STEPS, _RIDGE, _LEAST_SLOPE = 100, 1e-4, 0.1


class Sigmoid(NamedTuple):
    """Probability of a score s: 1 / (1 + exp(-(slope * s + offset)))."""

    slope: float
    offset: float


FALLBACK = Sigmoid(10.0, -5.0)  # even odds halfway between the targets 0 and 1; where left-out scores say nothing


def platt_per_class(scores_NC: Tensor, present_NC: Tensor) -> list[Sigmoid]:
    """A sigmoid for each class from left-out scores and bool truth."""
    together = platt(scores_NC.flatten(), present_NC.flatten()) or FALLBACK
    return [platt(s_N, p_N) or together for s_N, p_N in zip(scores_NC.T, present_NC.T, strict=True)]


def platt(scores_N: Tensor, present_N: Tensor) -> Sigmoid | None:
    """The likeliest sigmoid; None where there is too little to fit it to, or it would fall with the score."""
    positives = int(present_N.sum())
    negatives = len(present_N) - positives
    if min(positives, negatives) < 2:
        return None
    # n images without an error do not prove that there is none
    sure_N = torch.where(present_N, (positives + 1) / (positives + 2), 1 / (negatives + 2)).double()
    design_N2 = torch.stack([scores_N.double(), torch.ones_like(sure_N)], 1)
    ridge = _RIDGE * torch.eye(2, dtype=torch.float64)
    found = torch.tensor([0.0, float(torch.logit(sure_N.mean()))], dtype=torch.float64)
    for _ in range(_STEPS):
        chance_N = (design_N2 @ found).sigmoid()
        gradient = design_N2.T @ (chance_N - sure_N) + ridge @ found
        curvature = design_N2.T @ (design_N2 * (chance_N * (1 - chance_N))[:, None]) + ridge
        step = torch.linalg.solve(curvature, gradient)
        found = found - step * min(1.0, 5.0 / max(float(step.abs().max()), 1e-12))
        if float(step.abs().max()) < 1e-9:
            break
    slope, offset = found.tolist()
    return Sigmoid(slope, offset) if slope >= _LEAST_SLOPE else None
