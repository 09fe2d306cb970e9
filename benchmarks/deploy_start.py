"""How long a fresh process takes to its first decision: import, sums, session, one image."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.deploy_subjects import prepare
from benchmarks.deploy_turns import spread_of
from benchmarks.isolate import code_paths
from benchmarks.latency import spread

PHASES = ("python", "import", "sums", "session", "first")
_REPEATS = 10
# Stamps of the clock that all processes of a machine share.
_PROBE = """
import sys, time
stamps = [float(sys.argv[3]), time.perf_counter()]
from pangu_runtime.bundle import open_bundle
from pangu_runtime.predictor import Predictor
stamps.append(time.perf_counter())
opened = open_bundle(sys.argv[1])
stamps.append(time.perf_counter())
predictor = Predictor(opened)
stamps.append(time.perf_counter())
[found] = predictor.predict([sys.argv[2]])
stamps.append(time.perf_counter())
import json
heavy = [name for name in ("torch", "timm", "pangu_cv") if name in sys.modules]
print(json.dumps({"stamps": stamps, "found": found.to_json(), "heavy": heavy}))
"""


def measure(*, data: str, is_quick: bool, model: str) -> dict[str, Any]:
    """Fresh processes one after another, each on another image."""
    prepared = prepare(model, Path(data))
    images = spread(prepared.test, 2 if is_quick else _REPEATS)
    return {"model": model} | starts(prepared.bundle, images)


def starts(bundle: Path, images: Sequence[Path]) -> dict[str, Any]:
    """Milliseconds of every phase, and ``start``: sums, session and first decision together, without the import.

    The first process, which brings the files into the system's cache, is not counted.
    """
    _start(bundle, images[0])
    runs = [_start(bundle, image) for image in images]
    phases = {phase: spread_of([run[phase] for run in runs]) for phase in (*PHASES, "start", "whole")}
    return {"processes": len(runs), "ms": phases, "bundle_mb": (bundle / "model.onnx").stat().st_size / 1e6}


def _start(bundle: Path, image: Path) -> dict[str, float]:
    command = [sys.executable, "-c", _PROBE, str(bundle), str(image), repr(time.perf_counter())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=code_paths())
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    told = json.loads(done.stdout)
    assert not told["heavy"], told["heavy"]
    stamps = [1e3 * stamp for stamp in told["stamps"]]
    phases = {name: stamps[at + 1] - stamps[at] for at, name in enumerate(PHASES)}
    start = sum(phases[name] for name in ("sums", "session", "first"))
    return phases | {"start": start, "whole": stamps[-1] - stamps[0]}
