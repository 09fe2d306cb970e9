"""A cold start: typical images of clusters, so that few labels show as many kinds of image as they can.

TypiClust (Hacohen, Dekel and Weinshall, ICML 2022, arXiv 2202.02794): as many clusters as there will be labels, one
image of each, the one whose neighbours are nearest. Clusters that hold answered images wait.

Shapes: N images, K numbers of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans

from pangu_cv.iterate.pool.neighbours import Neighbours

_MOST_CLUSTERS = 500
_SMALLEST = 5  # images; a smaller cluster is chance
_NEIGHBOURS = 20


@dataclass(frozen=True)
class Typical:
    """Images worth a first label, the best first, and the size of each one's cluster."""

    places: tuple[int, ...]
    cluster_sizes: tuple[int, ...]


def typical(
    features_NK: NDArray[np.float32], neighbours: Neighbours, *, count: int, answered: Sequence[int], seed: int = 0
) -> Typical:
    """``count`` images from clusters with the fewest answered images, the largest cluster first."""
    clusters = min(len(answered) + count, _MOST_CLUSTERS, len(features_NK))
    labels = _clustered(features_NK, clusters, seed)
    is_open = np.ones(len(features_NK), bool)
    is_open[list(answered)] = False
    sizes = np.bincount(labels, minlength=clusters)
    known = np.bincount(labels[list(answered)], minlength=clusters) if len(answered) else np.zeros(clusters, int)
    allowed = sizes >= min(_SMALLEST, sizes.max())
    members = {k: _by_typicality(np.flatnonzero((labels == k) & is_open), neighbours) for k in np.flatnonzero(allowed)}
    found: list[int] = []
    while len(found) < count and any(len(places) for places in members.values()):
        cluster = min((k for k, places in members.items() if len(places)), key=lambda k: (known[k], -sizes[k]))
        found.append(int(members[cluster][0]))
        members[cluster] = members[cluster][1:]
        known[cluster] += 1
    return Typical(tuple(found), tuple(int(sizes[labels[place]]) for place in found))


def _clustered(features_NK: NDArray[np.float32], clusters: int, seed: int) -> NDArray[np.int64]:
    few = clusters <= 50 and len(features_NK) <= 20_000
    kind = (
        KMeans(clusters, n_init=1, random_state=seed) if few else MiniBatchKMeans(clusters, n_init=1, random_state=seed)
    )
    labels: NDArray[np.int64] = kind.fit_predict(features_NK).astype(np.int64)
    return labels


def _by_typicality(places: NDArray[np.int64], neighbours: Neighbours) -> NDArray[np.int64]:
    if not len(places):
        return places
    near = neighbours.among(places, count=_NEIGHBOURS)
    similarity_Qn = np.maximum(near.similarity_Qn, -1)  # where there are fewer images faiss fills up with -3e38
    return places[np.argsort(-similarity_Qn.mean(1), kind="stable")]
