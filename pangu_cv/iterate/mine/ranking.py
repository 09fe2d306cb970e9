"""Orders of images, mixed from several reasons to look.

Shapes: N images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Reason:
    """An order of places, the best first, the share of looks it gets, and what to say of an image it brought."""

    order: Sequence[int] | NDArray[np.int64]
    share: float
    words: str


@dataclass(frozen=True)
class Pick:
    """An image worth a look, and why."""

    place: int
    reason: str


def mixed(reasons: Sequence[Reason], *, without: Sequence[int] = ()) -> Iterator[Pick]:
    """Every image once: at each step the reason that has had least of its share gives its next."""
    taken = set(without)
    orders = [iter(reason.order) for reason in reasons]
    had = [0.0] * len(reasons)
    is_open = [reason.share > 0 for reason in reasons]
    while any(is_open):
        at = min((k for k in range(len(reasons)) if is_open[k]), key=lambda k: ((had[k] + 1) / reasons[k].share, k))
        place = next((int(p) for p in orders[at] if int(p) not in taken), None)
        if place is None:
            is_open[at] = False
            continue
        had[at] += 1
        taken.add(place)
        yield Pick(place, reasons[at].words)


def best_first(scores_N: NDArray[np.floating]) -> NDArray[np.int64]:
    """Places by falling score, ties in their order."""
    return np.argsort(-scores_N, kind="stable")


def ranks(scores_N: NDArray[np.floating]) -> NDArray[np.float32]:
    """0 for the lowest score to 1 for the highest."""
    found = np.empty(len(scores_N), np.float32)
    found[np.argsort(scores_N, kind="stable")] = np.linspace(0, 1, len(scores_N))
    return found
