"""The bundle's graph against the exporter's own, side by side, and the exporter's against itself as a control."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.deploy_subjects import prepare
from benchmarks.deploy_turns import in_turn, ratio
from benchmarks.latency import spread
from pangu_cv.tasks.anomaly import AnomalyModel
from pangu_cv.tasks.graph import write_graph
from pangu_cv.tasks.saved import load_model
from pangu_runtime.decode import decode

BATCHES = (1, 8)
_ROUNDS = 30
_SECONDS = 0.4  # of a turn
SIDES = ("plain", "bundle", "plain again")


def measure(*, data: str, is_quick: bool, model: str) -> dict[str, Any]:
    """Speed of the bundle's ``model.onnx`` over that of a plain export of the same checkpoint, on test images."""
    prepared = prepare(model, Path(data))
    images = [decode(path) for path in spread(prepared.test, max(BATCHES))]
    alike = [image for image in images if image.shape == images[0].shape]
    stack_NHW3 = np.stack([alike[at % len(alike)] for at in range(max(BATCHES))])
    return {"model": model} | compared(prepared.checkpoint, prepared.bundle, stack_NHW3, is_quick=is_quick)


def compared(checkpoint: Path, bundle: Path, stack_NHW3: NDArray[np.uint8], *, is_quick: bool) -> dict[str, Any]:
    """By batch; ``is_same`` where the bundle's graph has the exporter's operators, one by one."""
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "plain.onnx"
        write_plain(checkpoint, plain)
        files = dict(zip(SIDES, (plain, bundle / "model.onnx", plain), strict=True))
        sessions = {name: _session(path) for name, path in files.items()}
        by_batch = {}
        for batch in BATCHES:
            speeds = {name: _speed(one, stack_NHW3[:batch], is_quick) for name, one in sessions.items()}
            rates = in_turn(speeds, rounds=3 if is_quick else _ROUNDS)
            by_batch[str(batch)] = {
                "images_per_s": {name: float(np.median(values)) for name, values in rates.items()},
                "ratio": ratio(rates, "bundle", "plain"),
                "control": ratio(rates, "plain again", "plain"),
            }
        operators = {name: _operators(path) for name, path in files.items()}
    return {
        "is_same": operators["plain"] == operators["bundle"],
        "nodes": {name: len(operators[name]) for name in ("plain", "bundle")},
        "size_hw": stack_NHW3.shape[1:3],
        "batches": by_batch,
    }


def write_plain(checkpoint: Path, path: Path) -> None:
    """What torch's exporter gives for a checkpoint, before anything is made of it."""
    model = load_model(checkpoint).model
    write_graph(model, path, classes=() if isinstance(model, AnomalyModel) else model.classes)


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])


def _speed(session: ort.InferenceSession, images_NHW3: NDArray[np.uint8], is_quick: bool) -> Callable[[], float]:
    """Images a second in one turn."""

    def speed() -> float:
        session.run(None, {"image": images_NHW3})  # the turn before has left other memory in the caches
        start, calls = time.perf_counter(), 0
        while (passed := time.perf_counter() - start) < (0.05 if is_quick else _SECONDS):
            session.run(None, {"image": images_NHW3})
            calls += 1
        return calls * len(images_NHW3) / passed

    return speed


def _operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]
