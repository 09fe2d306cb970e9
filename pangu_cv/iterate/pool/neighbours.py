"""Nearest images among any number of them, by faiss.

Shapes: N images, K numbers of each.
"""

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

_EXACT = 20_000  # images up to which every pair may be compared
_BLOCK = 8192
_PROBED = 16  # cells looked into of an inverted file


@dataclass(frozen=True)
class Near:
    """For each query its nearest images, the nearest first: cosine similarities and places, [Q,n]; -1 where none is."""

    similarity_Qn: NDArray[np.float32]
    places_Qn: NDArray[np.int64]


class Neighbours:
    """An index by cosine similarity: exact for small pools, an inverted file of 8-bit codes for large ones."""

    def __init__(self, features_NK: NDArray[np.float32]) -> None:
        self._features = features_NK
        count, width = features_NK.shape
        kind = "Flat" if count <= _EXACT else f"IVF{round(4 * count**0.5)},SQ8"
        self._index: Any = faiss.index_factory(width, kind, faiss.METRIC_INNER_PRODUCT)
        if count > _EXACT:
            sample = np.random.default_rng(0).choice(count, min(count, 20_000), replace=False)
            self._index.train(_unit(features_NK[np.sort(sample)]))
            faiss.extract_index_ivf(self._index).nprobe = _PROBED
        for start in range(0, count, _BLOCK):
            self._index.add(_unit(features_NK[start : start + _BLOCK]))

    def of(self, queries_QK: NDArray[np.float32], *, count: int) -> Near:
        """The ``count`` nearest to each query."""
        similarity, places = self._index.search(_unit(queries_QK), count)
        return Near(similarity, places)

    def among(self, places: NDArray[np.int64], *, count: int) -> Near:
        """The ``count`` nearest of images of the pool, themselves left out."""
        similarity, found = self._index.search(_unit(self._features[places]), count + 1)
        is_other = found != places[:, None]
        order = np.argsort(~is_other, axis=1, kind="stable")[:, :count]
        return Near(np.take_along_axis(similarity, order, 1), np.take_along_axis(found, order, 1))


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    block = np.ascontiguousarray(features, np.float32)
    unit: NDArray[np.float32] = block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-9)
    return unit
