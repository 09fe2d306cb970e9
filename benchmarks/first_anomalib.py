"""Our detector and anomalib's PatchCore: same backbone and weights, same images and input size, same run.

Three processes one after another: ours fits, anomalib fits and both are timed in turn on single images, ours fits again
(the slower of our two fits counts). Each fit is timed from image files to a model that can decide.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks import isolate, subjects
from benchmarks.first_anomaly import auroc_of, evaluated
from benchmarks.machine import peak_memory_mb
from pangu_cv.deploy import export
from pangu_cv.tasks.saved import SavedModel, parent_of, save_model

PYTHON_VARIABLE = "PANGU_CV_BENCH_ANOMALIB"
_OURS, _THEIRS = "benchmarks.first_anomalib:fit_ours", "benchmarks.anomalib_patchcore:measure"


def measure(*, data: str, is_quick: bool, name: str, layers: list[str], normals: int | None) -> dict[str, Any]:
    """Figures of both, in processes of the Python that ``PANGU_CV_BENCH_ANOMALIB`` names (default: this one)."""
    shared = {"data": data, "is_quick": is_quick, "name": name, "normals": normals}
    python = os.environ.get(PYTHON_VARIABLE, sys.executable)
    isolate.call("benchmarks.anomalib_patchcore:require", {}, python=python)
    with tempfile.TemporaryDirectory() as folder:
        first = isolate.call(_OURS, shared | {"folder": folder}, python=python)
        theirs = isolate.call(_THEIRS, shared | {"layers": layers, "ours": folder}, python=python)
        again = isolate.call(_OURS, shared | {"folder": None}, python=python)
    latency = theirs.pop("latency")
    fits = [first["fit_seconds"], again["fit_seconds"]]
    return {
        "set": name,
        "layers": layers,
        "normals": first["normals"],
        "test_images": first["test_images"],
        "ours": first | {"fit_seconds": max(fits), "fits_seconds": fits},
        "anomalib": theirs,
        "latency": latency,
    }


def fit_ours(*, data: str, is_quick: bool, name: str, normals: int | None, folder: str | None) -> dict[str, Any]:
    """The recipe fitted in this process; with ``folder`` also measured, and checkpoint and bundle left there."""
    recipe = subjects.anomaly_recipe(Path(data), name)
    task = subjects.anomaly_task(recipe)
    split = subjects.anomaly_split(recipe, normals=normals, is_quick=is_quick)
    model = subjects.build_detector(task, max_mb=task.bank.max_mb, normals=len(split.normals))
    before = peak_memory_mb()
    fitted = subjects.fit_detector(model, split, recipe)
    result: dict[str, Any] = {
        "normals": len(split.normals),
        "test_images": len(split.test),
        "fit_seconds": fitted.seconds,
        "bank_vectors": fitted.learned.normality.bank.size,
        "features": model.features,
        "peak_memory_mb": {"before_fit": before, "after_fit": peak_memory_mb()},
        "threads": torch.get_num_threads(),
    }
    if folder is None:
        return result
    outcome = evaluated(model, split.test, recipe)
    result["peak_memory_mb"]["after_test"] = peak_memory_mb()
    result["image_auroc"] = outcome.image_auroc
    result["untouched"] = auroc_of(outcome, subjects.untouched(Path(data), name, split.test))
    result["pixel_auroc"] = outcome.pixels.auroc if outcome.pixels else None
    saved = SavedModel(model, subjects.provenance(recipe), parent_of(model), fitted.learned.normality)
    save_model(saved, Path(folder) / "model")
    export(Path(folder) / "model", Path(folder) / "bundle", [s.path for s in split.test[:4]])
    return result
