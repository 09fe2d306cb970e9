"""Pictures that look the same from afar: the same part photographed twice, a crop saved again, one board of a series.

A picture's thumbnail is its brightness on a coarse grid less its mean, of unit length; the product of two of them is
their correlation. Shapes: N images, T numbers of a thumbnail.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GRID = 24
_FLAT = 2.0  # grey levels: a picture of less contrast looks like any other
_BLOCK = 2048
MOST_COMPARED = 100_000
"""Images that look-alikes are sought among: every pair of them is compared, minutes for so many."""


def thumbnail(rgb: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """float32[T] of a picture uint8[H,W,3], None of one that shows nothing."""
    grey = np.asarray(Image.fromarray(rgb).convert("L").resize((GRID, GRID), Image.Resampling.BOX), np.float32)
    centred = (grey - grey.mean()).ravel()
    length = float(np.linalg.norm(centred))
    return centred / length if length > _FLAT * GRID else None


def is_compared(at: int, images: int) -> bool:
    """Whether the image at this place is among the ``MOST_COMPARED`` that look-alikes are sought in: evenly spread."""
    return at * MOST_COMPARED % images < MOST_COMPARED


def near_duplicates(
    thumbnails: Sequence[NDArray[np.float32] | None], *, correlation: float = 0.99
) -> list[tuple[int, ...]]:
    """Places in groups, as ``groups_of`` gives them: each correlates at least so much with another of its group.

    Time grows with N², memory with N, however many are alike.
    """
    places = np.array([at for at, one in enumerate(thumbnails) if one is not None], np.int64)
    if not len(places):
        return []
    all_NT = np.stack([thumbnails[at] for at in places])
    groups = _Groups(len(places))
    for row in range(0, len(places), _BLOCK):
        for column in range(row, len(places), _BLOCK):
            alike = all_NT[row : row + _BLOCK] @ all_NT[column : column + _BLOCK].T >= correlation
            if row == column:
                alike = np.triu(alike, 1)
            for at in np.flatnonzero(alike.any(1)):
                groups.join(row + int(at), column + np.flatnonzero(alike[at]))
    return sorted(tuple(places[sorted(group)].tolist()) for group in groups.members if len(group) > 1)


class _Groups:
    """N pictures, each in a group of its own until joined; a join moves the smaller group, all together N log N."""

    def __init__(self, count: int) -> None:
        self.group_N = np.arange(count)
        self.members = [[at] for at in range(count)]

    def join(self, at: int, others: NDArray[np.int64]) -> None:
        """Make one group of those that the picture and the others are in."""
        groups = self.group_N[others]
        for other in np.unique(groups[groups != self.group_N[at]]).tolist():
            small, large = sorted((int(self.group_N[at]), other), key=lambda group: len(self.members[group]))
            self.group_N[self.members[small]] = large
            self.members[large] += self.members[small]
            self.members[small] = []


def groups_of(chains: Iterable[Sequence[int]]) -> list[tuple[int, ...]]:
    """Chains (pairs, or longer) that share a member as one group, each sorted, the one with the first member first."""
    parent: dict[int, int] = {}

    def root(at: int) -> int:
        while parent.setdefault(at, at) != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    for first, *others in chains:
        root(first)
        for other in others:
            low, high = sorted((root(first), root(other)))
            parent[high] = low
    found: dict[int, list[int]] = {}
    for at in sorted(parent):
        found.setdefault(root(at), []).append(at)
    return [tuple(found[first]) for first in sorted(found)]
