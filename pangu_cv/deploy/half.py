"""Weights in fp16, computed with in fp32: half the size everywhere, the same speed.

CPUs have no fp16 kernels in onnxruntime (nor has WASM), so arithmetic in fp16 would be slower. The cast back is folded
when the session starts, and what is lost is the rounding of the weights alone.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pangu_cv.deploy.layers import is_of_network
from pangu_cv.deploy.onnx_graph import Graph, stripped
from pangu_runtime.bundle import Task

_FEWEST = 1024  # numbers; below, a cast costs more bytes than it saves
_MOST = 1e-2  # share of a tensor's largest value that rounding may move any of it: beyond, its range does not fit


def halved(proto: onnx.ModelProto, task: Task) -> onnx.ModelProto:
    """A copy whose large weights of the network are fp16; preprocessing, decision tail and bank stay as they are."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    graph = Graph(copy)
    casts = []
    for tensor in copy.graph.initializer:
        takers = graph.taken_by(tensor.name)
        if tensor.name in graph.inputs or not takers or not all(is_of_network(one, task) for one in takers):
            continue
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _FEWEST:
            continue
        value = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = value.astype(np.float16)
        if not np.abs(half.astype(np.float32) - value).max() <= _MOST * np.abs(value).max():
            continue
        name = f"{tensor.name}/half"
        casts.append(helper.make_node("Cast", [name], [tensor.name], name=f"{name}/Cast", to=TensorProto.FLOAT))
        tensor.CopyFrom(numpy_helper.from_array(half, name))
    nodes = [*casts, *copy.graph.node]
    kept = [onnx.NodeProto() for _ in nodes]
    for one, source in zip(kept, nodes, strict=True):
        one.CopyFrom(source)
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return stripped(copy)
