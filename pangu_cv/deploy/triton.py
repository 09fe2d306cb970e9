"""A bundle's graph as a model repository of NVIDIA Triton (onnxruntime backend), for those who outgrow one machine.

``NAME/config.pbtxt``, ``NAME/1/model.onnx`` and, for classifiers, ``NAME/labels.txt``. Clients of 'pangu-cv serve' work
unchanged: names, shapes and data types are the same, and so is the graph, byte by byte.

What the backend asks of a configuration (``ValidateInputs``, ``CompareDimsSupported``): an initialiser that requests
may override is an ``optional`` input, those need ``max_batch_size: 0``, and outputs have exactly the graph's dims.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from pangu_cv.errors import SettingsError
from pangu_runtime.predictor import Predictor
from pangu_runtime.tiles import Tiling

VERSION = "1"
MAX_BATCH = 8  # as 'pangu-cv serve' has it
_TYPES = {
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(float)": "TYPE_FP32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(bool)": "TYPE_BOOL",
}


def require_whole(tiling: Tiling | None) -> None:
    """Raises SettingsError for a model with tiles: Triton runs the graph, and tiles are merged outside of it."""
    if tiling is not None:
        raise SettingsError(
            "--profile cloud: this model works in tiles, which are merged outside the graph, and Triton does not do "
            "that; use 'pangu-cv serve', or train without task.tile"
        )


def write_repository(predictor: Predictor, folder: Path, *, name: str) -> None:
    """Write the repository of one model, in the predictor's precision, into an empty folder."""
    model = folder / name
    model.joinpath(VERSION).mkdir(parents=True)
    shutil.copyfile(predictor.model, model / VERSION / "model.onnx")
    if _has_labels(predictor):
        model.joinpath("labels.txt").write_text("".join(f"{c}\n" for c in predictor.bundle.classes), encoding="utf-8")
    model.joinpath("config.pbtxt").write_text(_config(predictor, name), encoding="utf-8")


def _config(predictor: Predictor, name: str) -> str:
    bundle, session = predictor.bundle, predictor.session
    optional = session.get_overridable_initializers()
    batch = 0 if optional else MAX_BATCH
    inputs = [_tensor(tensor, batch) for tensor in session.get_inputs()]
    inputs += [_tensor(tensor, batch, "optional: true") for tensor in optional]
    labels = 'label_filename: "labels.txt"'
    outputs = [
        _tensor(tensor, batch, *((labels,) if tensor.name == "scores" and _has_labels(predictor) else ()))
        for tensor in session.get_outputs()
    ]
    about = {"task": bundle.task, "classes": json.dumps(list(bundle.classes), ensure_ascii=False)}
    lines = [
        f"name: {_text(name)}",
        'backend: "onnxruntime"',
        'platform: "onnxruntime_onnx"',
        f"max_batch_size: {batch}",
        *(["dynamic_batching { }"] if batch else []),
        *(f"input {one}" for one in inputs),
        *(f"output {one}" for one in outputs),
        # The certificate is of ONNX Runtime on CPU.
        "instance_group { count: 1 kind: KIND_CPU }",
        *(
            f"parameters {{ key: {_text(key)} value {{ string_value: {_text(value)} }} }}"
            for key, value in about.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _tensor(tensor: Any, batch: int, *more: str) -> str:
    """One input or output; the first dimension is Triton's own where it batches."""
    dims = [-1 if isinstance(size, str) else size for size in tensor.shape][1 if batch else 0 :]
    fields = [f"name: {_text(tensor.name)}", f"data_type: {_TYPES[tensor.type]}", f"dims: {dims}", *more]
    return "{ " + " ".join(fields) + " }"


def _has_labels(predictor: Predictor) -> bool:
    return predictor.bundle.task == "classify"


def _text(value: str) -> str:
    """A string of protobuf's text format; of JSON's escapes it knows all."""
    return json.dumps(value, ensure_ascii=False)
