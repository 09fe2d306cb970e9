"""Arithmetic on the weights of models of one architecture that come from one ancestor.

Uniform soup (arXiv 2203.05482), interpolation (WiSE-FT, 2109.01903), task arithmetic (2212.04089), TIES (2306.01708)
and DARE (2311.03099). All are worked out in float64, so that equal models give the very same model.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

State = Mapping[str, Tensor]


def mean(states: Sequence[State]) -> dict[str, Tensor]:
    """The mean of every tensor; what counts (whole numbers) is taken of the first."""
    return _merged(states[0], lambda name: torch.stack([state[name].double() for state in states]).mean(0))


def between(start: State, end: State, share: float) -> dict[str, Tensor]:
    """``share`` of the way from ``start`` to ``end``."""
    return _merged(start, lambda name: torch.lerp(start[name].double(), end[name].double(), share))


def moved(
    start: State, states: Sequence[State], combine: Callable[[Tensor], Tensor], scale: float
) -> dict[str, Tensor]:
    """``start`` plus ``scale`` times what ``combine`` makes of the models' differences from it, float64[M,...]."""

    def tensor(name: str) -> Tensor:
        before = start[name].double()
        return before + scale * combine(torch.stack([state[name].double() - before for state in states]))

    return _merged(start, tensor)


def task_sum(deltas_M: Tensor) -> Tensor:
    """Task arithmetic: the sum of the differences."""
    return deltas_M.sum(0)


def ties(deltas_M: Tensor, *, density: float) -> Tensor:
    """Trim each model's differences to its largest, elect a sign by the sum, and average those that have it."""
    flat = deltas_M.flatten(1)
    kept = max(1, int(density * flat.shape[1]))
    places = flat.abs().topk(kept, dim=1).indices
    trimmed = torch.zeros_like(flat).scatter(1, places, flat.gather(1, places))
    agrees = (trimmed.sign() == trimmed.sum(0).sign()) & (trimmed != 0)
    return ((trimmed * agrees).sum(0) / agrees.sum(0).clamp(min=1)).view_as(deltas_M[0])


def dare(deltas_M: Tensor, *, density: float, random: torch.Generator) -> Tensor:
    """Keep a random ``density`` of each model's differences, made larger by as much, for another to combine."""
    return deltas_M * (torch.rand(deltas_M.shape, generator=random) < density) / density


def low_rank(delta: Tensor, *, rank: int) -> Tensor:
    """The nearest matrix of that rank; what is no matrix, or smaller, is given back as it is."""
    if delta.ndim != 2 or min(delta.shape) <= rank:
        return delta
    u, s, v = torch.linalg.svd(delta, full_matrices=False)
    nearest: Tensor = (u[:, :rank] * s[:rank]) @ v[:rank]
    return nearest


def _merged(like: State, tensor: Callable[[str], Tensor]) -> dict[str, Tensor]:
    return {n: tensor(n).to(old.dtype) if old.is_floating_point() else old.clone() for n, old in like.items()}
