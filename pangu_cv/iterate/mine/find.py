"""An order for finding what is rare: odd images first, then those like what was found, each answer changing the next.

Shapes: N images.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pangu_cv.iterate.mine.ranking import Reason, best_first, ranks
from pangu_cv.iterate.mine.wanted import Wanted

_ODD = 0.5  # how much oddity counts beside likeness once something was found; docs/LOG.md


def find_reasons(
    wanted: Wanted,
    odd_N: NDArray[np.float32],
    *,
    yes: Sequence[int],
    no: Sequence[int],
    explore: float,
    told_N: NDArray[np.float32] | None = None,
) -> tuple[Reason, ...]:
    """Why to look at which image next; ``told_N`` is how well each fits a sentence."""
    odd = Reason(best_first(odd_N), 1.0, "unlike the other images")
    if not yes:
        if told_N is None:
            return (odd,)
        return Reason(best_first(told_N), 1 - explore, "fits the sentence"), _share(odd, explore)
    likeness = wanted.scores(yes, no)
    low, high = float(likeness.min()), float(likeness.max())
    score = (likeness - low) / max(high - low, 1e-9) + _ODD * ranks(odd_N)
    if told_N is not None:
        score = score + _ODD * ranks(told_N)
    return Reason(best_first(score), 1 - explore, "like what was found"), _share(odd, explore)


def _share(reason: Reason, share: float) -> Reason:
    return Reason(reason.order, share, reason.words)
