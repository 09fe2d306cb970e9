"""AUROC over all pixels of a test set, in memory that does not grow with the number of images.

The exact value needs every score sorted at once: gigabytes for a few hundred maps. Here scores are counted in bins
that need no range known beforehand: the bits of a non-negative float32, read as an integer, are sorted like the float,
so its upper bits are a bin number with a constant *relative* width. 16 bits of mantissa make 65 536 bins per octave,
each 0.0015 % wide; an octave's page (1 MiB) is made when a score first falls there. What the bins cannot tell apart is
itself countable, so the value comes with a hard bound on its error.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics.interval import FloatArray

_MANTISSA_BITS = 16
_BINS_PER_OCTAVE = 1 << _MANTISSA_BITS
_DROPPED_BITS = 23 - _MANTISSA_BITS  # float32 has 23
_CHUNK_PIXELS = 1 << 20  # bounds the temporaries for one very large map


@dataclass(frozen=True, slots=True)
class PixelScores:
    """Figures over pixels; None where there is no defective or no normal pixel.

    The exact AUROC lies within ``max_error`` of ``auroc``. ``average_precision`` counts one bin as one tie and
    has no such bound.
    """

    auroc: float | None
    average_precision: float | None
    max_error: float | None
    pixels: int
    defective_pixels: int


class PixelAuroc:
    """Streaming accumulator: ``update`` once per image, then ``compute`` or ``scores``."""

    def __init__(self) -> None:
        self._pages: dict[int, NDArray[np.int64]] = {}  # octave -> counts [normal or defective, bin]

    def update(self, map_HW: FloatArray, mask_HW: NDArray[np.generic] | None) -> None:
        """Count one image: non-negative scores, and a mask that is non-zero on defects (None: all normal)."""
        if mask_HW is not None and mask_HW.shape != map_HW.shape:
            raise ValueError(f"map {map_HW.shape} and mask {mask_HW.shape} differ in shape")
        scores_P = map_HW.ravel()
        defect_P = np.zeros(scores_P.shape, bool) if mask_HW is None else mask_HW.ravel() != 0
        for start in range(0, scores_P.size, _CHUNK_PIXELS):
            chunk = slice(start, start + _CHUNK_PIXELS)
            self._count(scores_P[chunk], defect_P[chunk])

    def _count(self, scores_P: FloatArray, defect_P: NDArray[np.bool_]) -> None:
        if not (scores_P >= 0).all():  # NaN fails too
            raise ValueError("pixel scores must be numbers of at least 0")
        with np.errstate(over="ignore", under="ignore"):  # beyond float32: infinity, and the order stays
            positive_P = scores_P.astype(np.float32) + np.float32(0)  # turns -0.0, whose bits are large, into 0.0
        bin_P = (positive_P.view(np.uint32) >> _DROPPED_BITS).astype(np.int64)
        octaves_O, rank_P = np.unique(bin_P >> _MANTISSA_BITS, return_inverse=True)
        flat_P = (rank_P * 2 + defect_P) * _BINS_PER_OCTAVE + (bin_P & (_BINS_PER_OCTAVE - 1))
        counts = np.bincount(flat_P, minlength=len(octaves_O) * 2 * _BINS_PER_OCTAVE)
        for octave, page in zip(octaves_O.tolist(), counts.reshape(-1, 2, _BINS_PER_OCTAVE), strict=True):
            self._pages[octave] = self._pages[octave] + page if octave in self._pages else page.copy()

    def compute(self) -> float | None:
        """Area under the ROC curve over all pixels so far; None before both kinds were seen."""
        return self.scores().auroc

    def scores(self) -> PixelScores:
        """All figures over the pixels so far."""
        if not self._pages:
            return PixelScores(None, None, None, 0, 0)
        # Floats: a product of pixel counts outgrows 64-bit integers.
        normal_B, defect_B = self._occupied()
        normals, defects = float(normal_B.sum()), float(defect_B.sum())
        pixels = int(normals + defects)
        if normals == 0 or defects == 0:
            return PixelScores(None, None, None, pixels, int(defects))
        below_B = np.cumsum(normal_B) - normal_B
        pairs = normals * defects
        return PixelScores(
            auroc=float((defect_B * (below_B + normal_B / 2)).sum() / pairs),
            average_precision=_average_precision(normal_B, defect_B),
            max_error=float((defect_B * normal_B / 2).sum() / pairs),
            pixels=pixels,
            defective_pixels=int(defects),
        )

    def _occupied(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Counts of normal and of defective pixels in the bins that have any, in the order of the score."""
        counts = np.concatenate([self._pages[octave] for octave in sorted(self._pages)], axis=1)
        normal_B, defect_B = counts[:, counts.any(axis=0)].astype(np.float64)
        return normal_B, defect_B


def _average_precision(normal_B: NDArray[np.float64], defect_B: NDArray[np.float64]) -> float:
    """Precision summed over the steps of recall, from the highest score down."""
    found_B = np.cumsum(defect_B[::-1])
    flagged_B = np.cumsum((normal_B + defect_B)[::-1])
    return float((defect_B[::-1] * found_B / flagged_B).sum() / found_B[-1])
