"""The trained module as an ONNX graph: raw pixels in, decisions out, classes and threshold inside."""

import json
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from pangu_cv.tasks import TaskModel
from pangu_runtime.bundle import CONTRACT

OPSET = 20  # the first with antialiased Resize as torch computes it, in the exporter and in onnxruntime on CPU and WASM


def write_graph(model: TaskModel, path: Path, *, classes: tuple[str, ...]) -> None:
    """Trace with a batch of two odd-sized images, batch, height and width left open; check and write."""
    image = torch.randint(0, 256, (2, 67, 91, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sizes = {0: torch.export.Dim("N"), 1: torch.export.Dim("H"), 2: torch.export.Dim("W")}
    given = getattr(model, "threshold", None)
    arguments = (image,) if given is None else (image, given)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            model,
            arguments,
            dynamo=True,
            opset_version=OPSET,
            input_names=["image", "threshold"][: len(arguments)],
            output_names=list(CONTRACT[model.config.kind]),
            dynamic_shapes=(sizes, None)[: len(arguments)],
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    threshold = None
    if given is not None:
        threshold = float(given)
        _give_default(proto, "threshold", given.numpy())
    helper.set_model_props(
        proto, {"pangu_cv.classes": json.dumps(list(classes)), "pangu_cv.threshold": json.dumps(threshold)}
    )
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())


def _give_default(proto: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    """An initialiser under an input's name makes the input optional: the site may override it, else this holds."""
    assert any(i.name == name and i.type.tensor_type.elem_type == TensorProto.FLOAT for i in proto.graph.input)
    proto.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
