"""Labels that spread from a few images to many: a walk over the graph of nearest neighbours, until it settles.

F = α S F + (1 - α) Y (Zhou et al. 2003, Learning with Local and Global Consistency) on S = D^-½ W D^-½. The graph, and
the certainty by which an image counts, are of Iscen et al. (arXiv 1904.04717): W from the k nearest neighbours of each
image by max(0, cosine)^γ, certainty 1 - H(p) / log C.

Shapes: N labelled images, U others, M = N + U, D features, C classes.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from torch import Tensor

_ALPHA = 0.9  # how far labels travel: the share that an image takes from its neighbours
_SHARPNESS = 4.0  # γ
_ROUNDS = 100  # what is left of the start after them: α^100 = 3e-5
_AT_ONCE = 2048  # images whose likeness to all others is held in memory


class Spread(NamedTuple):
    """For each of the others: probabilities float64[U,C], and their certainty float64[U], 0 where no label came."""

    probability_UC: Tensor
    certainty_U: Tensor


def spread_labels(
    labelled_ND: Tensor, labels_N: Tensor, others_UD: Tensor, *, classes: int, neighbours: int = 10
) -> Spread:
    """Probabilities of the classes for images without labels; rows are compared by their cosine.

    Labels of classes with many images count for less each, so that no class spreads by its number alone.
    """
    rows_MD = torch.nn.functional.normalize(torch.cat([labelled_ND, others_UD]).float(), dim=-1)
    graph = _normalised(_nearest(rows_MD, min(neighbours, len(rows_MD) - 1)))
    start_MC = np.zeros((len(rows_MD), classes))
    counts_C = torch.bincount(labels_N, minlength=classes).clamp(min=1)
    start_MC[np.arange(len(labels_N)), labels_N.numpy()] = 1 / counts_C[labels_N].numpy()
    found_MC = start_MC
    for _ in range(_ROUNDS):
        found_MC = _ALPHA * (graph @ found_MC) + (1 - _ALPHA) * start_MC
    found_UC = torch.from_numpy(found_MC[len(labels_N) :])
    total_U1 = found_UC.sum(1, keepdim=True)
    is_reached_U1 = total_U1 > 0
    probability_UC = torch.where(is_reached_U1, found_UC / total_U1.clamp(min=1e-300), 1 / classes)
    entropy_U = torch.special.entr(probability_UC).sum(1)
    certainty_U = (1 - entropy_U / np.log(classes)).clamp(min=0)
    return Spread(probability_UC, certainty_U)


def _nearest(rows_MD: Tensor, neighbours: int) -> csr_array:
    """Affinities to the nearest others, symmetric: each pair counts whichever of the two is near the other."""
    count = len(rows_MD)
    places, values = [], []
    for first in range(0, count, _AT_ONCE):
        cosine = rows_MD[first : first + _AT_ONCE] @ rows_MD.T
        own = torch.arange(len(cosine))
        cosine[own, first + own] = -1
        best, at = cosine.topk(neighbours, dim=1)
        values.append(best.clamp(min=0).double().pow(_SHARPNESS))
        places.append(at)
    start = np.arange(0, count * neighbours + 1, neighbours)
    flat = torch.cat(values).flatten().numpy(), torch.cat(places).flatten().numpy(), start
    one_way = csr_array(flat, shape=(count, count))
    return (one_way + one_way.T) / 2


def _normalised(affinity: csr_array) -> csr_array:
    degree_M: NDArray[np.float64] = np.asarray(affinity.sum(axis=1)).ravel()
    root = diags_array(np.where(degree_M > 0, degree_M, 1.0) ** -0.5)
    return root @ affinity @ root
