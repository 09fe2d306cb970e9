"""The best of a ranking without repeating itself.

Shapes: N images, K numbers of each.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def diverse(
    order: Sequence[int], features_NK: NDArray[np.float32], *, count: int, most_alike: float
) -> tuple[int, ...]:
    """The first ``count`` places of ``order`` none of which is more than ``most_alike`` (cosine) like an earlier one.

    Where that leaves fewer, the next best are taken whatever they are like.
    """
    taken: list[int] = []
    passed: list[int] = []
    rows = np.zeros((count, features_NK.shape[1]), np.float32)
    for place in order:
        if len(taken) == count:
            break
        row = features_NK[place] / max(float(np.linalg.norm(features_NK[place])), 1e-9)
        if taken and float((rows[: len(taken)] @ row).max()) > most_alike:
            passed.append(place)
            continue
        rows[len(taken)] = row
        taken.append(place)
    return tuple((taken + passed)[:count])
