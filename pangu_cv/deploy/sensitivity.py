"""How much each layer alone suffers from int8: the decision's own numbers with that one layer quantised."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pangu_cv.deploy.decider import GraphDecider, Kind, Outputs, Pixels
from pangu_cv.deploy.layers import Layer
from pangu_cv.deploy.onnx_graph import stripped
from pangu_cv.deploy.quantise import Quantiser
from pangu_cv.deploy.ranges import METHODS, Method, one_tile
from pangu_cv.features import Progress

_TELLING = ("scores", "map", "confidence")  # the first there is: smooth where the decision itself only jumps


@dataclass(frozen=True)
class Sensitivity:
    """``error`` is the root of the mean square difference of the scores or map, over that of all layers in int8."""

    layer: Layer
    error: float


class Yardstick:
    """The answers in full precision on a few images, to hold others against."""

    def __init__(self, quantiser: Quantiser, kind: Kind, images: Sequence[Pixels]) -> None:
        self._kind, self._images = kind, [one_tile(image, kind)[None] for image in images]
        decider = GraphDecider(stripped(quantiser.proto).SerializeToString(), kind)
        self._expected = [_telling(decider.call(image)) for image in self._images]

    def error(self, graph: bytes) -> float:
        """Root of the mean square difference, over all images."""
        decider = GraphDecider(graph, self._kind)
        found = [_telling(decider.call(image)) for image in self._images]
        squares = [np.mean((a - b) ** 2) for a, b in zip(self._expected, found, strict=True)]
        return float(np.sqrt(np.mean(squares)))


def best_method(quantiser: Quantiser, yardstick: Yardstick) -> dict[Method, float]:
    """The error of each way to take ranges with all layers in int8, the best first."""
    errors = {
        method: yardstick.error(quantiser.int8(quantiser.layers, method=method).SerializeToString())
        for method in METHODS
    }
    return dict(sorted(errors.items(), key=lambda item: item[1]))


def sensitivities(
    quantiser: Quantiser, yardstick: Yardstick, *, method: Method, progress: Progress | None = None
) -> tuple[Sensitivity, ...]:
    """Of every layer, the most sensitive first."""
    whole = max(yardstick.error(quantiser.int8(quantiser.layers, method=method).SerializeToString()), 1e-12)
    found = []
    for done, layer in enumerate(quantiser.layers, start=1):
        graph = quantiser.int8([layer], method=method).SerializeToString()
        found.append(Sensitivity(layer, yardstick.error(graph) / whole))
        if progress:
            progress(done, len(quantiser.layers))
    return tuple(sorted(found, key=lambda one: -one.error))


def _telling(outputs: Outputs) -> NDArray[np.float64]:
    return np.asarray(next(outputs[name] for name in _TELLING if name in outputs), np.float64)
