"""The same graph in fewer steps, in operators that every runtime has: nothing here is onnxruntime's own.

Each rewriting is exact up to the order of additions. None asks whether it pays: ``optimise`` measures that.
"""

import numpy as np
import onnx

from pangu_cv.deploy.onnx_graph import Graph, int64, node


def lean(graph: Graph) -> dict[str, int]:
    """Apply every rewriting; how often each found its pattern."""
    found = {
        "linear layers as Gemm": linear_as_gemm(graph),
        "distances as Gemm": distances_as_gemm(graph),
        "equal channels as one number": equal_channels(graph),
    }
    graph.prune()
    return found


def linear_as_gemm(graph: Graph) -> int:
    """MatMul and the Add of a bias over tokens as one Gemm over rows: one pass less over every activation.

    Gelu then stays by itself, which onnxruntime computes faster than with a bias in it; quantised, the bias is free.
    """
    lengths = {
        value.name: value.type.tensor_type.shape.dim[1].dim_value
        for value in graph.proto.graph.value_info
        if len(value.type.tensor_type.shape.dim) == 3
    }
    found = 0
    for matmul in graph.nodes:
        add = graph.only_taker(matmul.output[0])
        tokens = lengths.get(matmul.input[0], 0) if matmul.op_type == "MatMul" else 0
        if not tokens or add is None or add.op_type != "Add" or not _is_vector_or_matrix(graph, matmul.input[1], 2):
            continue
        bias = [name for name in add.input if _is_vector_or_matrix(graph, name, 1)]
        if len(bias) != 1:
            continue
        (wide, narrow), out = graph.shape(matmul.input[1]), add.output[0]
        rows = graph.add_constant(f"rows_of_{wide}", int64(-1, wide))
        back = graph.add_constant(f"images_of_{tokens}x{narrow}", int64(-1, tokens, narrow))
        new = [
            node("Reshape", [matmul.input[0], rows], f"{out}/rows", like=matmul),
            node("Gemm", [f"{out}/rows", matmul.input[1], bias[0]], f"{out}/gemm", like=matmul),
            node("Reshape", [f"{out}/gemm", back], out, like=add),
        ]
        graph.replace([matmul, add], new, at=add)
        found += 1
    return found


def distances_as_gemm(graph: Graph) -> int:
    """``half_norms - patches @ bank`` of anomaly detection in one Gemm: its largest array is written once."""
    found = 0
    for minus in graph.nodes:
        if minus.op_type != "Sub" or not _is_vector_or_matrix(graph, minus.input[0], 1):
            continue
        matmul = graph.made_by(minus.input[1])
        if matmul is None or matmul.op_type != "MatMul" or not _is_vector_or_matrix(graph, matmul.input[1], 2):
            continue
        if graph.only_taker(matmul.output[0]) is None:
            continue
        gemm = node("Gemm", [*matmul.input, minus.input[0]], minus.output[0], like=minus, alpha=-1.0)
        graph.replace([matmul, minus], [gemm], at=minus)
        found += 1
    return found


def equal_channels(graph: Graph) -> int:
    """Where mean or deviation are the same for all channels, one number in place of three.

    onnxruntime computes quantised convolutions with channels last and moves the normalisation there too, where three
    numbers a pixel are ten times slower than one.
    """
    found = 0
    for one in graph.proto.graph.node:
        if one.op_type not in ("Sub", "Div", "Mul", "Add"):
            continue
        for place, name in enumerate(one.input):
            value = graph.constant(name)
            if value is not None and value.ndim == 4 and value.size > 1 and np.all(value == value.flat[0]):
                one.input[place] = graph.add_constant(f"{name}/one", np.array(value.flat[0]))
                found += 1
    return found


def _is_vector_or_matrix(graph: Graph, name: str, rank: int) -> bool:
    return graph.is_constant(name) and len(graph.shape(name)) == rank


def contrib(proto: onnx.ModelProto) -> bool:
    """Whether the graph holds operators that are onnxruntime's own."""
    return any(one.domain not in ("", "ai.onnx") for one in proto.graph.node)
