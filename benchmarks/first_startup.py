"""How long ``pangu-cv --help`` takes, and whether torch is among the modules it imports."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.latency import summary

_HEAVY = ("torch", "torchvision", "timm", "sklearn", "scipy", "matplotlib")
_PROBE = f"""
import json, sys
from pangu_cv.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
print(json.dumps([name for name in {_HEAVY!r} if name in sys.modules]), file=sys.stderr)
"""


def measure(*, data: str, is_quick: bool) -> dict[str, Any]:
    """Median of repeated starts, in turn with a bare start of the interpreter."""
    del data
    script = Path(sys.executable).with_name("pangu-cv")
    verb = [str(script)] if script.is_file() else [sys.executable, "-m", "pangu_cv.cli"]
    times: dict[str, list[float]] = {"help": [], "python": []}
    for _ in range(3 if is_quick else 10):
        times["help"].append(_milliseconds([*verb, "--help"]))
        times["python"].append(_milliseconds([sys.executable, "-c", "pass"]))
    return {name: summary(values) for name, values in times.items()} | {"heavy_modules": _heavy_modules()}


def _milliseconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return 1000 * (time.perf_counter() - start)


def _heavy_modules() -> list[str]:
    done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stderr.splitlines()[-1])
    return found
