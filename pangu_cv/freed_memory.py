"""Memory that one pass of a network frees stays with the process for the next pass."""

import ctypes
import sys

_LARGEST = 32 * 2**20  # bytes; glibc allows no more


def keep_freed_blocks() -> None:
    """Let glibc keep freed blocks below 32 MB, instead of having the kernel map and zero them anew.

    Those are activations; what is larger, such as the pixels of a large image, goes back at once, so that memory stays
    bounded. Measured on two cores, EfficientNet-Lite0 in batches of four: 1.3 times as many images a second. Elsewhere
    than on Linux with glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # malloc.h
        mallopt(mmap_threshold, _LARGEST)
        mallopt(trim_threshold, 2**31 - 1)
