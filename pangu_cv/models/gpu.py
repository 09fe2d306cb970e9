"""Whether there is a GPU that computes, and words for one whose memory is full."""

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pangu_cv.errors import GpuMemoryError, SettingsError


@functools.cache
def usable_gpu() -> bool:
    """Asked once, by computing: beside a driver that is too old, or in a container without its libraries, torch counts
    GPUs that it cannot use. Such a one is named on stderr, and the CPU is taken.

    Raises SettingsError in one of several processes, since the others may have one that computes.
    """
    if not torch.cuda.is_available():
        return False
    rank = os.environ.get("LOCAL_RANK")
    try:
        torch.ones(1, device=f"cuda:{rank or 0}").add_(1).item()
    except (RuntimeError, AssertionError) as error:
        if rank is not None:
            raise SettingsError(
                f"engine.accelerator: GPU {rank} does not compute ({_first_line(error)}); name those that do in "
                "CUDA_VISIBLE_DEVICES, or take 'cpu'"
            ) from None
        print(f"the GPU is not used, it does not compute: {_first_line(error)}", file=sys.stderr)
        return False
    return True


@contextmanager
def words_for_full_memory(advice: str) -> Iterator[None]:
    """Raises GpuMemoryError with the advice where torch runs out of a GPU's memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise GpuMemoryError(
            f"the GPU's memory is full ({_first_line(error)}); {advice}, or keep off the GPU with "
            "CUDA_VISIBLE_DEVICES= in front of the command"
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
