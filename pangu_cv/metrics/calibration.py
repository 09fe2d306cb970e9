"""Whether a stated confidence is kept: what share of the answers given with it are right."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Reliability:
    """Mean confidence, accuracy (both NaN in an empty bin) and count per bin of equal width over (0, 1]."""

    confidence_B: NDArray[np.float64]
    accuracy_B: NDArray[np.float64]
    count_B: NDArray[np.int64]

    @property
    def expected_error(self) -> float | None:
        """Mean gap between confidence and accuracy, weighted by bin (Guo et al. 2017, arXiv:1706.04599); None of none.

        For boxes, with the share of true ones as accuracy, it is the detection error of Küppers et al. 2020
        (arXiv:2004.13546) by score alone.
        """
        gap_B = np.nan_to_num(np.abs(self.confidence_B - self.accuracy_B))
        total = self.count_B.sum()
        return float((gap_B * self.count_B).sum() / total) if total else None


def reliability(
    confidence_K: NDArray[np.floating[Any]], is_right_K: NDArray[np.bool_], *, bins: int = 15
) -> Reliability:
    """Confidences in 0..1 of K answers against whether each was right, in ``bins`` bins closed on the right."""
    bin_K = np.digitize(confidence_K, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    count_B = np.bincount(bin_K, minlength=bins)
    divisor_B = np.where(count_B > 0, count_B, np.nan)
    return Reliability(
        confidence_B=np.bincount(bin_K, weights=confidence_K, minlength=bins) / divisor_B,
        accuracy_B=np.bincount(bin_K, weights=is_right_K, minlength=bins) / divisor_B,
        count_B=count_B,
    )
