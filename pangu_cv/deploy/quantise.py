"""Static int8: QDQ pairs around layers, from ranges that were observed on the user's images, for plain onnxruntime.

Weights are int8 of 7 bits, a scale for each channel; activations uint8 with a zero point. On x86 that is the pair with
the fast kernels, and with 7 bits no sum of two products leaves 16 bits: processors without VNNI, which saturate there,
give the same sums. Matrix products give float, so that what follows (Gelu, softmax, sums) is computed as before; only
convolutions, which have no other operator, give uint8. What rounding the weights adds on average, biases take back.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from pangu_cv.deploy.decider import Kind, Pixels
from pangu_cv.deploy.half import halved
from pangu_cv.deploy.layers import Layer, quantisable, riding
from pangu_cv.deploy.onnx_graph import Graph
from pangu_cv.deploy.ranges import METHODS, Method, Ranges, observe
from pangu_cv.deploy.rounding import Shifts, correct, shifts
from pangu_runtime.bundle import Task

_FLOAT_OUT = ["Gemm", "MatMul"]


@dataclass(frozen=True)
class Quantiser:
    """A graph whose activations were observed; makes its int8 graph for any choice of layers."""

    proto: onnx.ModelProto
    layers: tuple[Layer, ...]
    ranges: Ranges
    task: Task
    shifts: Shifts = field(default_factory=dict)

    def int8(self, layers: Collection[Layer], *, method: Method) -> onnx.ModelProto:
        """The graph with these layers in int8, the network's other weights stored in fp16, ready to be written."""
        return halved(self._quantised({one.name for one in layers}, method), self.task)

    def _quantised(self, names: set[str], method: Method) -> onnx.ModelProto:
        copy = onnx.ModelProto()
        copy.CopyFrom(self.proto)
        if not names:
            return copy
        correct(copy, {name: shift for name, shift in self.shifts.items() if name in names})
        graph = Graph(copy)
        together = names | set(riding(graph, names))
        chosen = [one for one in graph.nodes if one.name in together]
        quantizer = QDQQuantizer(
            copy,
            per_channel=True,
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._tensors_range(method),
            nodes_to_quantize=[one.name for one in chosen],
            nodes_to_exclude=[],
            op_types_to_quantize=sorted({one.op_type for one in chosen}),
            extra_options={"OpTypesToExcludeOutputQuantization": _FLOAT_OUT},
        )
        quantizer.quantize_model()
        result: onnx.ModelProto = quantizer.model.model
        return result

    def _tensors_range(self, method: Method) -> TensorsData:
        ends = {name: self.ranges.of(name, method) for name in self.ranges.seen_I4}
        return TensorsData(
            CalibrationMethod.MinMax,
            {
                name: TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))
                for name, (low, high) in ends.items()
            },
        )


def quantiser(proto: onnx.ModelProto, kind: Kind, images: Sequence[Pixels]) -> Quantiser:
    """Observe the images; ``proto`` still has the exporter's notes and shapes."""
    graph = Graph(proto)
    layers = quantisable(graph, kind.task)
    together = {one.name for one in layers}
    together |= set(riding(graph, together))
    touched = dict.fromkeys(
        name
        for one in graph.nodes
        if one.name in together
        for name in (*one.input[: 2 if one.op_type == "Add" else 1], one.output[0])
    )
    plain = Quantiser(proto, layers, observe(proto, list(touched), images, kind), kind.task)
    rounded = plain._quantised({one.name for one in layers}, METHODS[0])  # weights are rounded alike by all methods
    return replace(plain, shifts=shifts(proto, rounded, layers, images, kind))
