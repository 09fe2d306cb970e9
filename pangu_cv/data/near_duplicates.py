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


def thumbnail(rgb: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """float32[T] of a picture uint8[H,W,3], None of one that shows nothing."""
    grey = np.asarray(Image.fromarray(rgb).convert("L").resize((GRID, GRID), Image.Resampling.BOX), np.float32)
    centred = (grey - grey.mean()).ravel()
    length = float(np.linalg.norm(centred))
    return centred / length if length > _FLAT * GRID else None


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
    first_N = np.arange(len(places))  # the first picture of the group that each is in by now
    for start in range(0, len(all_NT), _BLOCK):
        alike = all_NT[start : start + _BLOCK] @ all_NT[start:].T >= correlation
        for at, later in enumerate(np.triu(alike, 1), start=start):
            if later.any():
                joined = np.unique(np.append(first_N[start:][later], first_N[at]))
                if len(joined) > 1:
                    first_N[np.isin(first_N, joined)] = joined[0]
    members: dict[int, list[int]] = {}
    for first, place in zip(first_N.tolist(), places.tolist(), strict=True):
        members.setdefault(first, []).append(place)
    return [tuple(group) for group in members.values() if len(group) > 1]


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
