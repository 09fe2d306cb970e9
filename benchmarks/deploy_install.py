"""What it takes to predict: a fresh environment's bytes, and the seconds of the import, ours beside others'."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.deploy_turns import spread_of
from benchmarks.machine import ROOT

FOLDER_VARIABLE = "PANGU_CV_BENCH_ENVIRONMENTS"
_STARTS = 10
_TOOLS = ("pip", "setuptools", "wheel")
_TOLD = ("torch", "torchvision", "onnxruntime", "openvino", "lightning", "anomalib", "lightly-train", "numpy")
_CUDA = ("nvidia", "triton")  # folders that a torch for GPUs brings; it is itself larger too
_WHERE = "import sysconfig; print(sysconfig.get_paths()['purelib'])"


@dataclass(frozen=True)
class Install:
    """What is installed, and what one imports of it to predict; ``requirement`` None is this project's wheel."""

    label: str
    imports: str
    requirement: str | None = None
    extra: str = ""


INSTALLS = {
    "ours": Install("pangu-cv", "import pangu_runtime.predictor"),
    "ours_serve": Install("pangu-cv[serve]", "import pangu_runtime.serve.server", extra="[serve]"),
    "anomalib": Install("anomalib", "from anomalib.deploy import TorchInferencer", "anomalib"),
    "lightly_train": Install("lightly-train", "import lightly_train", "lightly-train"),
}


def measure(*, data: str, is_quick: bool, what: str) -> dict[str, Any]:
    """A fresh environment in the folder that ``PANGU_CV_BENCH_ENVIRONMENTS`` names (default: a temporary one)."""
    del data
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder or None) as scratch:
        chosen = INSTALLS[what]
        wanted = chosen.requirement or f"{_wheel(Path(scratch))}{chosen.extra}"
        found = installed(wanted, chosen.imports, Path(scratch) / "environment", starts=3 if is_quick else _STARTS)
    return {"what": what, "imports": chosen.imports} | found


def installed(wanted: str, imports: str, folder: Path, *, starts: int) -> dict[str, Any]:
    """Bytes that an install adds to a bare environment, and its import, in turn with a bare start of Python."""
    _run(sys.executable, "-m", "venv", str(folder))
    python = str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    site = Path(_run(python, "-I", "-c", _WHERE).strip())
    before = bytes_of(site)
    begun = time.perf_counter()
    try:
        _run(python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", wanted)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return {"told": "pip could not install it here"}
    seconds = time.perf_counter() - begun
    found = {
        "added_mb": (bytes_of(site) - before) / 1e6,
        "cuda_mb": sum(bytes_of(folder) for name in _CUDA for folder in site.glob(name)) / 1e6,
        "install_seconds": seconds,
        **_packages(python),
    }
    try:
        _run(python, "-I", "-c", imports)  # the first one fills the system's cache
    except RuntimeError as error:
        return found | {"told": str(error).strip().splitlines()[-1]}
    times: dict[str, list[float]] = {"import": [], "bare": []}
    for _ in range(starts):
        times["import"].append(_milliseconds(python, imports))
        times["bare"].append(_milliseconds(python, "pass"))
    return found | {f"{name}_ms": spread_of(values) for name, values in times.items()}


def bytes_of(folder: Path) -> int:
    """Of all files below, links not followed, a file of several names once."""
    seen: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        about = path.lstat()
        if path.is_file() and not path.is_symlink():
            seen[about.st_dev, about.st_ino] = about.st_size
    return sum(seen.values())


def _wheel(folder: Path) -> Path:
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist"), cwd=ROOT)
    (path,) = (folder / "dist").glob("*.whl")
    return Path(path)


def _packages(python: str) -> dict[str, Any]:
    told = _run(python, "-I", "-m", "pip", "--disable-pip-version-check", "list", "--format", "json")
    versions = {one["name"].lower().replace("_", "-"): one["version"] for one in json.loads(told)}
    return {
        "packages": sum(name not in _TOOLS for name in versions),
        "versions": {name: versions[name] for name in _TOLD if name in versions},
    }


def _milliseconds(python: str, code: str) -> float:
    start = time.perf_counter()
    _run(python, "-I", "-c", code)
    return 1000 * (time.perf_counter() - start)


def _run(*command: str, cwd: Path | None = None) -> str:
    """Output of a command, without this process's own paths of code; raises RuntimeError with what it told."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:] or done.stdout[-4000:])
    return done.stdout
