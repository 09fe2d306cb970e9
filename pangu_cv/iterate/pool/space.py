"""A small space that a pool's vectors are compared in: standardised, groups of unit length, turned to what varies most.

Statistics come from the pool itself, streamed in blocks, so that memory does not grow with the number of images.

Shapes: N images, D stored numbers, K numbers of the space.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

MOST = 256  # numbers of the space; beyond them the pools of docs/LOG.md hold under 5 % of their variance
_BLOCK = 4096
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Space:
    """``project`` maps stored vectors to rows of about unit length."""

    groups: tuple[int, ...]
    mean_D: Array
    scale_D: Array
    centre_D: Array
    axes_DK: Array

    @classmethod
    def fit(cls, vectors: NDArray[np.float16], rows: NDArray[np.int64], groups: Sequence[int]) -> "Space":
        """From the given rows of a map of vectors; ``groups`` are the sizes of the parts that count alike."""
        count = len(rows)
        total = square = np.zeros(vectors.shape[1])
        for block in _blocks(vectors, rows):
            total, square = total + block.sum(0), square + (block**2).sum(0)
        mean = total / count
        deviation = np.sqrt(np.maximum(square / count - mean**2, 0))
        starts = np.cumsum([0, *groups])
        parts = [deviation[a:b] for a, b in itertools.pairwise(starts)]
        scale = deviation + np.concatenate([np.full(len(part), np.median(part)) for part in parts]) + 1e-6
        raw = cls(tuple(groups), mean, scale, np.zeros(len(mean)), np.eye(0))
        kept = min(MOST, len(mean), max(1, count - 1))
        if count <= len(mean):
            return _from_products(raw, raw.unit(vectors[rows]), kept)
        centre, outer = np.zeros(len(mean)), np.zeros((len(mean), len(mean)))
        for block in _blocks(vectors, rows):
            unit = raw.unit(block)
            centre, outer = centre + unit.sum(0), outer + unit.T @ unit
        centre = centre / count
        covariance = outer / count - np.outer(centre, centre)
        _, axes = scipy.linalg.eigh(covariance, subset_by_index=[len(mean) - kept, len(mean) - 1])
        return cls(tuple(groups), mean, scale, centre, axes[:, ::-1])

    def unit(self, vectors_ND: NDArray[np.floating]) -> Array:
        """Standardised, each group scaled to the same length: float64[N,D], rows of unit length."""
        standard = (vectors_ND.astype(np.float64) - self.mean_D) / self.scale_D
        starts = np.cumsum([0, *self.groups])
        for a, b in itertools.pairwise(starts):
            standard[:, a:b] /= np.maximum(np.linalg.norm(standard[:, a:b], axis=1, keepdims=True), 1e-9)
        return standard / math.sqrt(len(self.groups))

    def project(self, vectors_ND: NDArray[np.floating]) -> NDArray[np.float32]:
        """float32[N,K]."""
        projected = (self.unit(vectors_ND) - self.centre_D) @ self.axes_DK
        return projected.astype(np.float32)


def _from_products(raw: Space, unit_ND: Array, kept: int) -> Space:
    """The same axes from the products of all pairs of images: quicker where there are fewer images than numbers."""
    count = len(unit_ND)
    centre = unit_ND.mean(0)
    centred = unit_ND - centre
    values, vectors = scipy.linalg.eigh(centred @ centred.T, subset_by_index=[count - min(kept, count), count - 1])
    axes = centred.T @ vectors[:, ::-1] / np.sqrt(np.maximum(values[::-1], 1e-12))
    return dataclasses.replace(raw, centre_D=centre, axes_DK=axes)


def _blocks(vectors: NDArray[np.float16], rows: NDArray[np.int64]) -> Iterator[Array]:
    for start in range(0, len(rows), _BLOCK):
        yield vectors[rows[start : start + _BLOCK]].astype(np.float64)
