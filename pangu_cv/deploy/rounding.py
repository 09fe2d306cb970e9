"""What rounding its weights adds to each output channel of a layer on average, which its bias takes back.

Bias correction (Nagel et al. 2019, arXiv 1906.04721, section 4.2): with rounded weights W̃ a layer gives (W̃ - W) E[x]
too much on average. E[x] is measured on the user's images, in full precision; what lies beyond an image's border counts
as the rest of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from pangu_cv.deploy.decider import Kind, Pixels
from pangu_cv.deploy.layers import Layer
from pangu_cv.deploy.onnx_graph import Graph, attribute
from pangu_cv.deploy.ranges import watched

Floats = NDArray[np.float64]
Shifts = Mapping[str, Floats]
_BIAS = 2  # place among the inputs of Conv and Gemm


def shifts(
    proto: onnx.ModelProto, rounded: onnx.ModelProto, layers: Iterable[Layer], images: Sequence[Pixels], kind: Kind
) -> Shifts:
    """Of each layer that can have a bias, by its name: what ``rounded``, the graph in int8, adds to each output."""
    graph, int8 = Graph(proto), Graph(rounded)
    names = {one.name for one in layers}
    biased = [one for one in graph.nodes if one.name in names and _takes_bias(graph, one)]
    if not biased:
        return {}
    means = _means(proto, biased, images, kind)
    later = {one.name: one for one in int8.nodes}
    found = {}
    for one in biased:
        error = _dequantised(int8, later[one.name].input[1]) - _constant(graph, one.input[1])
        found[one.name] = added(one, error, means[one.name])
    return found


def correct(proto: onnx.ModelProto, shifts: Shifts) -> None:
    """Take the shifts from the biases, in place."""
    graph = Graph(proto)
    for one in graph.nodes:
        if one.name in shifts:
            has_bias = len(one.input) > _BIAS and one.input[_BIAS]
            bias = _constant(graph, one.input[_BIAS]) if has_bias else 0.0
            assert not graph.is_constant(f"{one.name}/bias"), "a graph is corrected once"
            # A constant of its own: another layer may share the bias.
            name = graph.add_constant(f"{one.name}/bias", (bias - shifts[one.name]).astype(np.float32))
            one.input[:] = [*one.input[:_BIAS], name]
    graph.prune()


def _takes_bias(graph: Graph, layer: onnx.NodeProto) -> bool:
    if len(layer.input) > _BIAS and layer.input[_BIAS] and not graph.is_constant(layer.input[_BIAS]):
        return False
    scales = [attribute(layer, "alpha", 1.0), attribute(layer, "beta", 1.0)]
    return layer.op_type == "Conv" or (layer.op_type == "Gemm" and scales == [1, 1] and not attribute(layer, "transA"))


def _means(
    proto: onnx.ModelProto, layers: Sequence[onnx.NodeProto], images: Sequence[Pixels], kind: Kind
) -> dict[str, Floats]:
    """Mean of each input channel of each layer, by the layer's name."""
    names = list(dict.fromkeys(one.input[0] for one in layers))
    sums: dict[str, Any] = dict.fromkeys((one.name for one in layers), 0.0)
    for seen in watched(proto, names, images, kind):
        for one in layers:
            x = seen[one.input[0]]
            channels = np.moveaxis(x, 1 if one.op_type == "Conv" else -1, -1)
            sums[one.name] = sums[one.name] + channels.reshape(-1, channels.shape[-1]).mean(0, dtype=np.float64)
    return {name: total / len(images) for name, total in sums.items()}


def _dequantised(int8: Graph, tensor: str) -> Floats:
    """The weights behind a DequantizeLinear; of a layer that was left alone, its own."""
    node = int8.made_by(tensor)
    if node is None:
        return _constant(int8, tensor)
    weights, scale = (_constant(int8, name) for name in node.input[:2])
    if scale.ndim:
        axis = attribute(node, "axis", 1)
        scale = scale.reshape([-1 if at == axis else 1 for at in range(weights.ndim)])
    return weights * scale


def added(layer: onnx.NodeProto, error: Floats, mean_C: Floats) -> Floats:
    """What an error of the weights adds to each output of a layer whose input channels have these means."""
    if layer.op_type == "Gemm":
        return np.asarray(error @ mean_C if attribute(layer, "transB", 0) else mean_C @ error)
    groups = attribute(layer, "group", 1)
    error_GOI = error.sum(axis=tuple(range(2, error.ndim))).reshape(groups, -1, error.shape[1])
    return np.asarray(np.einsum("goi,gi->go", error_GOI, mean_C.reshape(groups, -1)).ravel())


def _constant(graph: Graph, tensor: str) -> Floats:
    value = graph.constant(tensor)
    assert value is not None, f"{tensor} is no constant"
    return np.asarray(value, np.float64)
