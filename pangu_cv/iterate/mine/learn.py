"""An order for teaching a model: typical images of what is unknown, doubtful ones, a few odd ones.

Doubtful images are spread over clusters of the doubtful half, the most doubtful of each first: without that the first
fifty doubts are one doubt fifty times (after DropQuery, Gupte et al., arXiv 2401.14555).

Shapes: N images, K numbers of each.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from pangu_cv.iterate.mine.ranking import Reason, best_first
from pangu_cv.iterate.mine.recipe import Learn
from pangu_cv.iterate.mine.typical import typical
from pangu_cv.iterate.pool.neighbours import Neighbours

_CANDIDATES = 10  # doubtful images that are clustered, for each one chosen


def learn_reasons(
    features_NK: NDArray[np.float32],
    odd_N: NDArray[np.float32],
    goal: Learn,
    *,
    count: int,
    answered: Sequence[int],
    doubts_N: NDArray[np.float32] | None,
    seed: int,
) -> tuple[Reason, ...]:
    """Why to look at which image next; without doubts there is nothing to be unsure about yet: typical images alone."""
    share = goal.typical if doubts_N is not None else 1 - goal.odd
    reasons = []
    if share > 0:
        first = typical(features_NK, Neighbours(features_NK), count=count, answered=answered, seed=seed)
        reasons.append(Reason(first.places, share, "typical of its cluster"))
    if doubts_N is not None:
        order = spread(features_NK, doubts_N, count=count, answered=answered, seed=seed)
        reasons.append(Reason(order, max(0.0, 1 - goal.typical - goal.odd), "the model is in doubt"))
    reasons.append(Reason(best_first(odd_N), goal.odd, "unlike the other images"))
    return tuple(reasons)


def spread(
    features_NK: NDArray[np.float32], doubts_N: NDArray[np.float32], *, count: int, answered: Sequence[int], seed: int
) -> list[int]:
    """The most doubtful image of each of ``count`` clusters of doubtful images, the most doubtful cluster first."""
    done = set(answered)
    candidates = [int(p) for p in best_first(doubts_N) if int(p) not in done and doubts_N[p] > 0][: _CANDIDATES * count]
    if len(candidates) <= count:
        return candidates
    kind = MiniBatchKMeans(count, n_init=1, random_state=seed)
    labels = kind.fit_predict(np.asarray(features_NK[np.array(candidates)]))
    firsts: dict[int, int] = {}
    for place, label in zip(candidates, labels.tolist(), strict=True):
        firsts.setdefault(label, place)
    chosen = list(firsts.values())
    return chosen + [place for place in candidates if place not in set(chosen)]
