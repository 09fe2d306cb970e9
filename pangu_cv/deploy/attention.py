"""Attention in one operator of onnxruntime (``com.microsoft.MultiHeadAttention``, on CPU and in WASM).

Only for graphs that are made for onnxruntime anyway: other runtimes do not know it.
"""

import onnx
from onnx import helper

from pangu_cv.deploy.onnx_graph import Graph, attribute, int64

_DOMAIN = "com.microsoft"
# What torch's exporter writes between the three projections in one and their result.
_INSIDE = {"MatMul", "Softmax", "Mul", "Reshape", "Transpose", "Slice", "Squeeze", "Concat", "Shape"}
_APART = [2, 0, 3, 1, 4]  # image, token, query|key|value, head, feature → query|key|value, image, head, token, feature


def fuse_attention(graph: Graph) -> int:
    """Replace every attention over one joint projection; how many there were. Others are left as they are."""
    found = 0
    for softmax in [one for one in graph.nodes if one.op_type == "Softmax"]:
        # The nodes are copies after each replacement, so each is looked up again by what it makes.
        current = graph.made_by(softmax.output[0])
        found += current is not None and _fuse(graph, current)
    if found:
        graph.proto.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
        graph.prune()
    return found


def _fuse(graph: Graph, softmax: onnx.NodeProto) -> bool:
    joined = _result(graph, softmax)
    split = _projection(graph, graph.made_by(joined.input[0])) if joined is not None else None
    shape = graph.constant(split.input[1]) if split is not None else None
    if joined is None or split is None or shape is None or shape.shape != (5,) or shape[2] != 3:
        return False
    heads, width, out = int(shape[3]), int(shape[4]), joined.output[0]
    parts = [f"{out}/{name}" for name in ("query", "key", "value")]
    sizes = graph.add_constant(f"three_of_{heads * width}", int64(*[heads * width] * 3))
    new = [
        helper.make_node("Split", [split.input[0], sizes], parts, name=f"{out}/Split", axis=2),
        helper.make_node(
            "MultiHeadAttention",
            parts,
            [out],
            name=f"{out}/MultiHeadAttention",
            domain=_DOMAIN,
            num_heads=heads,
            scale=width**-0.5,
        ),
    ]
    graph.replace([joined], new, at=joined)
    return True


def _result(graph: Graph, softmax: onnx.NodeProto) -> onnx.NodeProto | None:
    """The Reshape that puts the heads side by side again."""
    one: onnx.NodeProto | None = softmax
    for kind in ("MatMul", "Transpose", "Reshape"):
        one = graph.only_taker(one.output[0]) if one is not None else None
        if one is None or one.op_type != kind:
            return None
        if kind == "Transpose" and attribute(one, "perm") != [0, 2, 1, 3]:
            return None
    return one


def _projection(graph: Graph, last: onnx.NodeProto | None) -> onnx.NodeProto | None:
    """The Reshape [N, tokens, 3, heads, features] that everything inside comes from; None where anything else does."""
    ends, waiting, seen = set(), [last], set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if one.op_type == "Transpose" and attribute(one, "perm") == _APART:
            ends.add(one.input[0])
        elif one.op_type in _INSIDE:
            waiting += [graph.made_by(name) for name in one.input]
        else:
            return None
    if len(ends) != 1:
        return None
    found = graph.made_by(ends.pop())
    return found if found is not None and found.op_type == "Reshape" else None
