"""What a probe finds: figures of every draw, and what every image adds to them.

A gain is worth no more than the images it was found on: with what each adds, an interval can count them too.

Shapes: D draws, N images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """One figure by draw (mean over images) and by image (mean over draws); the mean of either is the figure."""

    by_draw: tuple[float, ...]
    by_image: tuple[float, ...]

    @classmethod
    def of(cls, parts_DN: Floats) -> "Judged":
        """From what each image adds in each draw."""
        return cls(tuple(parts_DN.mean(1).tolist()), tuple(parts_DN.mean(0).tolist()))

    @classmethod
    def joined(cls, folds: Sequence["Judged"]) -> "Judged":
        """All images of several folds, each image counting alike."""
        by_draw_KD = np.array([fold.by_draw for fold in folds])
        counts = [len(fold.by_image) for fold in folds]
        by_draw_D = np.average(by_draw_KD, axis=0, weights=counts)
        return cls(tuple(by_draw_D.tolist()), tuple(value for fold in folds for value in fold.by_image))

    @property
    def mean(self) -> float:
        """The figure, a share of 1."""
        return float(np.mean(self.by_draw))


@dataclass(frozen=True)
class Score:
    """One target, one state of the backbone: shares of 1.

    ``folds`` has the figure on each fold of the images that are held out, one alone where they are too few to part;
    ``knn``, votes of those seen, is told beside.
    """

    target: str
    folds: tuple[Judged, ...]
    knn: float | None

    @property
    def mean(self) -> float:
        """The figure, mean over draws and images."""
        return self.mean_beside(None)

    @property
    def is_apart(self) -> bool:
        """Whether images that do not choose the round can judge it."""
        return len(self.folds) > 1

    def mean_beside(self, fold: int | None) -> float:
        """The figure without one fold; of all images where there is one alone."""
        beside = [judged for number, judged in enumerate(self.folds) if number != fold or not self.is_apart]
        return Judged.joined(beside).mean


def balanced_parts(is_right_DN: NDArray[np.bool_], label_N: NDArray[np.int64]) -> Floats:
    """What each image adds to balanced accuracy, float[D,N]: the mean of a row is that of the draw."""
    _, place_N, count_C = np.unique(label_N, return_inverse=True, return_counts=True)
    return np.asarray(is_right_DN * (len(label_N) / (len(count_C) * count_C[place_N])), np.float64)


def area_parts(score_DN: Floats, is_defect_N: NDArray[np.bool_]) -> Floats:
    """What each image adds to AUROC, float[D,N]: the mean of a row is that of the draw.

    Their variance is DeLong's (1988, doi:10.2307/2531595): how many normal images a defect lies above varies over
    defects, and how many defects lie above it over normal images. Two of each kind at least: one alone does not vary.
    """
    count_N = np.where(is_defect_N, is_defect_N.sum(), (~is_defect_N).sum())
    weight_N = len(is_defect_N) / np.sqrt(count_N * np.maximum(count_N - 1.0, 1.0))
    parts_DN = np.empty(score_DN.shape)
    for scores_N, parts_N in zip(score_DN, parts_DN, strict=True):
        won = (np.sign(scores_N[is_defect_N][:, None] - scores_N[~is_defect_N]) + 1) / 2  # a tie is half won
        parts_N[is_defect_N], parts_N[~is_defect_N] = won.mean(1), won.mean(0)
        parts_N[:] = won.mean() + weight_N * (parts_N - won.mean())
    return parts_DN
