"""One batch over several processes: gathering with gradients, and counts over all of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pangu_cv.pretrain.relations import Facts


def world_size() -> int:
    """Processes in the run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process."""
    return dist.get_rank() if world_size() > 1 else 0


@contextmanager
def while_others_wait() -> Iterator[None]:
    """For what one process does alone for hours: the others wait at the end, for a day at most.

    Any other wait is given up after half an hour, since one that fails must not hold up the rest for long.
    """
    patient = dist.new_group(backend="gloo", timeout=timedelta(hours=24)) if world_size() > 1 else None
    yield
    if patient is not None:
        dist.barrier(patient)  # type: ignore[arg-type]  # every process is a member
        dist.destroy_process_group(patient)


class _Gather(torch.autograd.Function):
    """Every process's gradient of a row reaches the process the row came from."""

    @staticmethod
    def forward(ctx: Any, rows_ND: Tensor) -> Tensor:
        parts = [torch.empty_like(rows_ND) for _ in range(world_size())]
        dist.all_gather(parts, rows_ND.contiguous())
        ctx.count = len(rows_ND)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient)
        own: Tensor = gradient[rank() * ctx.count : (rank() + 1) * ctx.count]
        return own


def gathered(rows_ND: Tensor) -> Tensor:
    """The rows of all processes, in order of rank; every process must have as many."""
    if world_size() == 1:
        return rows_ND
    if rows_ND.is_floating_point():
        found: Tensor = _Gather.apply(rows_ND)  # type: ignore[no-untyped-call]
        return found
    parts = [torch.empty_like(rows_ND) for _ in range(world_size())]
    dist.all_gather(parts, rows_ND.contiguous())
    return torch.cat(parts)


def gathered_facts(facts: Facts) -> Facts:
    """The facts of all processes."""
    if world_size() == 1:
        return facts
    return Facts(*(gathered(part) for part in facts))


def process_mean(numbers: Tensor) -> Tensor:
    """The mean over processes, without gradients; a count's makes a mean of means a mean over all."""
    if world_size() == 1:
        return numbers
    total = numbers.detach().float().clone()
    dist.all_reduce(total)
    return total / world_size()
