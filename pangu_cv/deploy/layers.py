"""Which layers of a graph int8 may touch: those of the network that hold weights.

The resize and normalisation before it, the decision tail behind it and the bank of an anomaly detector stay as they
are: a decision hangs on their last digits, and they are small or, like the bank, the very memory that is compared with.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx

from pangu_cv.deploy.onnx_graph import Graph, scope
from pangu_runtime.bundle import Task

_DENSE: tuple[Task, ...] = ("detect", "segment")  # their heads are networks; the others' are the decision itself
_RIDING = ("Clip", "Relu")
_SHORTEST = 64  # numbers of a dot product over raw pixels; a shorter one gains nothing from int8 (measured)
_PIXEL_CHANNELS = 4


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix product with constant weights; ``scope`` is its place in the model."""

    name: str
    scope: str
    operator: str
    weights: int


def is_of_network(node: onnx.NodeProto, task: Task) -> bool:
    """Whether it is between preprocessing and decision."""
    return scope(node).startswith(("backbone", "head") if task in _DENSE else "backbone")


def quantisable(graph: Graph, task: Task) -> tuple[Layer, ...]:
    """In order of computation."""
    return tuple(
        Layer(one.name, scope(one), one.op_type, int(np.prod(graph.shape(one.input[1]))))
        for one in graph.nodes
        if one.op_type in ("Conv", "Gemm", "MatMul")
        and is_of_network(one, task)
        and graph.is_constant(one.input[1])
        and not _is_short(graph, one)
    )


def _is_short(graph: Graph, layer: onnx.NodeProto) -> bool:
    """A first convolution of a few pixels, such as 3 x 3 of 3 channels."""
    shape = graph.shape(layer.input[1])
    return layer.op_type == "Conv" and 1 < shape[1] <= _PIXEL_CHANNELS and int(np.prod(shape[1:])) < _SHORTEST


def riding(graph: Graph, layers: Collection[str]) -> list[str]:
    """Names of the activations and sums computed in int8 with ``layers``, at no cost and without rounding twice.

    An activation that only cuts off is the edge of the quantised range itself; a sum of two quantised tensors has an
    operator of its own.
    """
    inside = {one.name for one in graph.nodes if one.name in layers and one.op_type == "Conv"}
    found = []
    for one in graph.nodes:
        if one.op_type not in (*_RIDING, "Add"):
            continue
        makers = [graph.made_by(name) for name in one.input[: 1 if one.op_type in _RIDING else None]]
        if not all(maker is not None and maker.name in inside for maker in makers):
            continue
        if one.op_type in _RIDING and graph.only_taker(one.input[0]) is None:
            continue
        inside.add(one.name)
        found.append(one.name)
    return found
