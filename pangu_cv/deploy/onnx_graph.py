"""An ONNX graph with an index: who makes and who takes a tensor, constants, where in the model a node is from."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_SCOPES = "pkg.torch.onnx.name_scopes"  # torch's exporter leaves the path of modules at every node


class Graph:
    """Wraps a proto and changes it in place; it answers for the state after the last ``replace`` or ``prune``."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        self._index()

    def _index(self) -> None:
        graph = self.proto.graph
        self.inputs = {one.name for one in graph.input}
        self.outputs = {one.name for one in graph.output}
        self._tensors = {one.name: one for one in graph.initializer if one.name not in self.inputs}
        self._made_by = {name: node for node in graph.node for name in node.output}
        self._taken_by: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self._taken_by[name].append(node)

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """In order of computation."""
        return list(self.proto.graph.node)

    def made_by(self, tensor: str) -> onnx.NodeProto | None:
        """The node a tensor comes from; None for inputs and constants."""
        return self._made_by.get(tensor)

    def taken_by(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes a tensor goes to."""
        return self._taken_by.get(tensor, [])

    def only_taker(self, tensor: str) -> onnx.NodeProto | None:
        """The one node a tensor goes to; None where there are others, or where it is an output."""
        takers = self.taken_by(tensor)
        return takers[0] if len(takers) == 1 and tensor not in self.outputs else None

    def is_constant(self, tensor: str) -> bool:
        """Whether it is an initialiser that no input overrides."""
        return tensor in self._tensors

    def constant(self, tensor: str) -> NDArray[Any] | None:
        """The values of an initialiser; None for anything else."""
        return numpy_helper.to_array(self._tensors[tensor]) if tensor in self._tensors else None

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Of an initialiser."""
        return tuple(self._tensors[tensor].dims)

    def add_constant(self, name: str, value: NDArray[Any]) -> str:
        """Its name; nothing happens where it is there already."""
        if name not in self._tensors:
            tensor = numpy_helper.from_array(value, name)
            self.proto.graph.initializer.append(tensor)
            self._tensors[name] = tensor
        return name

    def replace(self, old: Iterable[onnx.NodeProto], new: Sequence[onnx.NodeProto], *, at: onnx.NodeProto) -> None:
        """Put ``new`` in the place of node ``at`` and take ``old`` away; what they made is made again."""
        gone = {id(node) for node in old}
        kept: list[onnx.NodeProto] = []
        for node in self.nodes:
            if node is at:
                kept += new
            if id(node) not in gone:
                kept.append(node)
        self._set_nodes(kept)

    def prune(self) -> None:
        """Take away nodes and initialisers that no output needs."""
        nodes = self.nodes
        while True:
            used = {name for node in nodes for name in node.input} | self.outputs
            kept = [node for node in nodes if any(name in used for name in node.output)]
            if len(kept) == len(nodes):
                break
            nodes = kept
        self._set_nodes(nodes)
        initialisers = [t for t in self.proto.graph.initializer if t.name in used or t.name in self.inputs]
        del self.proto.graph.initializer[:]
        self.proto.graph.initializer.extend(initialisers)
        self._index()

    def _set_nodes(self, nodes: Sequence[onnx.NodeProto]) -> None:
        copies = []
        for node in nodes:  # the proto's own are gone once its list is emptied
            copies.append(onnx.NodeProto())
            copies[-1].CopyFrom(node)
        del self.proto.graph.node[:]
        self.proto.graph.node.extend(copies)
        self._index()


def scope(node: onnx.NodeProto) -> str:
    """Where in the model a node is from, such as ``backbone.network.blocks.0``; empty for the model's own lines."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            modules = [str(one) for one in ast.literal_eval(entry.value)[1:-1]]
            return modules[-1] if modules else ""
    return ""


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """The value of a node's attribute."""
    return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)


def node(kind: str, inputs: Sequence[str], output: str, *, like: onnx.NodeProto, **attributes: Any) -> onnx.NodeProto:
    """A node of one result, named after it, from the same place in the model as ``like``."""
    made = helper.make_node(kind, list(inputs), [output], name=f"{output}/{kind}", **attributes)
    made.metadata_props.extend(like.metadata_props)
    return made


def stripped(proto: onnx.ModelProto, *, keeps_shapes: bool = False) -> onnx.ModelProto:
    """A copy without what the exporter remembers for its makers: stack traces, shapes between nodes.

    Shapes may stay where no type was changed: ONNX Runtime plans its memory by them (docs/LOG.md: 11 % of the time).
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for one in copy.graph.node:
        del one.metadata_props[:]
    del copy.graph.metadata_props[:]
    made = {name for node in copy.graph.node for name in node.output}
    shapes = [value for value in copy.graph.value_info if keeps_shapes and value.name in made]
    del copy.graph.value_info[:]
    copy.graph.value_info.extend(shapes)
    for value in (*copy.graph.input, *copy.graph.output, *copy.graph.initializer, *copy.graph.value_info):
        del value.metadata_props[:]
    return copy


def int64(*values: int) -> NDArray[np.int64]:
    """A shape, or a list of axes."""
    return np.array(values, np.int64)
