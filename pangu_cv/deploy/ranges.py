"""What values activations take on the user's images: seen one image at a time, so that memory holds one."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from pangu_cv.deploy.decider import GraphDecider, Kind, Pixels
from pangu_cv.deploy.onnx_graph import stripped

Method = Literal["minmax", "mean", "percentile"]
METHODS: tuple[Method, ...] = ("minmax", "mean", "percentile")
_TAIL = 1e-4  # share of values that the percentile method gives up on either side
_SAMPLED = 50_000  # values of a tensor that its percentiles are taken of


@dataclass(frozen=True)
class Ranges:
    """``seen_I4`` by tensor: lowest, highest, and both percentiles, of each of I images."""

    seen_I4: Mapping[str, NDArray[np.float64]]

    def of(self, tensor: str, method: Method) -> tuple[float, float]:
        """The range that is quantised.

        ``minmax`` cuts nothing off; ``mean`` is the mean over images of their extremes, so that one strange image does
        not cost all others their resolution; ``percentile`` gives up one value in ten thousand on either side.
        """
        low_I, high_I, low_percentile_I, high_percentile_I = self.seen_I4[tensor].T
        match method:
            case "minmax":
                return float(low_I.min()), float(high_I.max())
            case "mean":
                return float(low_I.mean()), float(high_I.mean())
            case _:
                return float(low_percentile_I.min()), float(high_percentile_I.max())


def observe(proto: onnx.ModelProto, tensors: Sequence[str], images: Iterable[Pixels], kind: Kind) -> Ranges:
    """Run the images through the graph; with tiles, the first tile's worth of each, as the graph takes it."""
    seen: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
    for values in watched(proto, tensors, images, kind):
        for name, value in values.items():
            flat = value.ravel()
            sampled = flat[:: max(1, flat.size // _SAMPLED)]
            low, high = np.quantile(sampled, [_TAIL, 1 - _TAIL])
            seen[name].append((float(flat.min()), float(flat.max()), float(low), float(high)))
    return Ranges({name: np.array(rows, np.float64) for name, rows in seen.items()})


def watched(
    proto: onnx.ModelProto, tensors: Sequence[str], images: Iterable[Pixels], kind: Kind
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """The values of these tensors, image by image."""
    copy = stripped(proto)
    known = {one.name for one in copy.graph.output}
    extra = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors if name not in known]
    copy.graph.output.extend(extra)
    session, names = GraphDecider(copy.SerializeToString(), kind).session, list(tensors)
    for image in images:
        yield dict(zip(names, session.run(names, {"image": one_tile(image, kind)[None]}), strict=True))


def one_tile(image_HW3: Pixels, kind: Kind) -> Pixels:
    """What one call of the graph takes: the image, or its middle where the graph takes tiles."""
    if kind.tiling is None:
        return image_HW3
    side = kind.tiling.px
    top, left = (max(0, (length - side) // 2) for length in image_HW3.shape[:2])
    return np.ascontiguousarray(image_HW3[top : top + side, left : left + side])
