"""What a figure was measured on: processor, memory, versions, commit, command; and the peak memory of this process."""

import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from pangu_cv.runs import environment

ROOT = Path(__file__).parents[1]
PACKAGES = ("pangu-cv", "torch", "timm", "onnx", "onnxruntime", "numpy", "pillow", "scikit-learn")
_TUNING = ("OMP_", "KMP_", "GOMP_", "MKL_", "MALLOC_")
_PATH_OPTIONS = ("--data", "--results", "--anomalib-python", "--python", "--environments")


def machine() -> dict[str, Any]:
    """Processor, cores and memory; no name, user or path of the machine."""
    return _gpu() | {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _gpu() -> dict[str, str]:
    """The first GPU, where there is one; asked without torch, which takes seconds to import."""
    try:
        told = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"gpu": told.stdout.splitlines()[0].strip()} if told.stdout.strip() else {}


def _cpu_model() -> str:
    """Model name and numbers: cloud machines of different speed share the name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    numbers = [f"{key} {found[key]}" for key in ("cpu family", "model", "stepping") if key in found]
    return f"{found.get('model name', platform.machine())} ({', '.join(numbers)})"


def versions() -> dict[str, str]:
    """Python and the packages that figures depend on."""
    found: dict[str, str] = environment(PACKAGES)["versions"]
    return {"python": platform.python_version(), **found}


def thread_settings() -> dict[str, str]:
    """Variables of the environment that change how fast threads and memory are."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(_TUNING)}


def commit() -> str:
    """Short name of the commit, with ``+`` where files differ from it."""
    try:
        name = _git("rev-parse", "--short", "HEAD")
        return name + ("+" if _git("status", "--porcelain", "--", "pangu_cv", "export", "recipes") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def command() -> str:
    """The command line without values that name places of this machine."""
    shown, hide = [], False
    for argument in sys.argv[1:]:
        name = argument.partition("=")[0]
        shown += [] if hide else [f"{name} ..." if name in _PATH_OPTIONS else argument]
        hide = name in _PATH_OPTIONS and "=" not in argument
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *shown])


def peak_memory_mb() -> float:
    """Highest resident memory of this process so far, in millions of bytes."""
    try:
        # not getrusage: a child starts with its parent's peak, while VmHWM starts anew with the program
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
