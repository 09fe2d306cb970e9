"""What a figure was measured on, and the peak memory of this process."""

import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort


def machine() -> dict[str, Any]:
    """Processor, cores, memory and versions; no name, user or path of the machine."""
    return {
        "cpu": _cpu_model(),
        "cores": cores(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "onnxruntime": ort.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory_mb() -> float:
    """Highest resident memory of this process so far, in millions of bytes; 0 where the system does not tell."""
    try:
        # not getrusage: a child starts with its parent's peak, while VmHWM starts anew with the program
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6
    except (OSError, StopIteration):
        return _peak_by_usage_mb()


def _peak_by_usage_mb() -> float:
    if sys.platform == "win32":  # has no resource
        return 0.0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def _cpu_model() -> str:
    """Model name and numbers: cloud machines of different speed share the name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    numbers = [f"{key} {found[key]}" for key in ("cpu family", "model", "stepping") if key in found]
    return f"{found.get('model name', platform.machine())} ({', '.join(numbers)})"
