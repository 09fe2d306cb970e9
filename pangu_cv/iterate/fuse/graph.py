"""Graph-network fusion (our reading of Pangu's): who is to be believed about which image, by passing messages.

Nodes are models and images. Images are joined where each is among the nearest of the other in a model's features;
a model and an image are joined as strongly as the model agrees with what is believed of the image and around it. In
every round beliefs flow from image to neighbours, agreements from images to models and on to the neighbours of those
images, and what comes in gives each image its own weights of the models. A model has no score for a class that it does
not know, so it agrees little, and counts little, where the neighbourhood is believed to be of such a class. Labels,
where there are any, are believed from the start and never change.

Shapes: M models, N images, C classes, E feature spaces of D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pangu_cv.iterate.fuse.ensemble import CERTAINTY, Floats, ensemble, normalised
from pangu_cv.settings import Settings

Share = Annotated[float, Field(ge=0, le=1)]
_ROWS = 512  # images whose neighbours are looked for at once
_FLOOR = 1e-3  # a weight of nothing could never grow again


class MessagesConfig(Settings):
    """How messages are passed."""

    neighbours: Annotated[int, Field(ge=1)] = 4
    """Nearest images that an image may be joined to, in each model's features."""
    rounds: Annotated[int, Field(ge=0)] = 10
    """Of messages; they end earlier where nothing moves. 0 passes none: the plain ensemble is distilled."""
    around: Share = 0.3
    """Share of what is believed of an image, and of how much a model agrees there, that comes from its neighbours."""
    sharpness: Annotated[float, Field(ge=0)] = 2.0
    """Weights are agreements to this power; 0 weighs all models alike."""
    certainty: Annotated[float, Field(ge=1)] = CERTAINTY
    """What is believed in the end is taught to this power: votes of several models leave more doubt than there is."""


@dataclass(frozen=True, eq=False)
class Believed:
    """``weights_NM`` of the models (each row sums to 1), ``beliefs_NC`` about the images, how far the rounds moved."""

    weights_NM: Floats
    beliefs_NC: Floats
    moved: tuple[float, ...]


def pass_messages(
    scores_MNC: Floats,
    knows_MC: NDArray[np.bool_],
    edges_NN: Any,
    truth_N: NDArray[np.integer],
    config: MessagesConfig,
) -> Believed:
    """Beliefs and weights; ``edges_NN`` is sparse (see ``joined``), ``truth_N`` a class number or -1 for unlabelled."""
    labelled_N = truth_N >= 0
    sure_NC = np.eye(scores_MNC.shape[2])[np.maximum(truth_N, 0)]
    beliefs_NC = ensemble(scores_MNC, knows_MC)
    beliefs_NC[labelled_N] = sure_NC[labelled_N]
    weights_NM = np.full((scores_MNC.shape[1], len(scores_MNC)), 1 / len(scores_MNC))
    moved: list[float] = []
    for _ in range(config.rounds):
        around_NC = normalised(edges_NN @ beliefs_NC)
        weights_NM = _weights(scores_MNC, _mixed(beliefs_NC, around_NC, config), edges_NN, config)
        own_NC = ensemble(scores_MNC, knows_MC, weights_NM)
        own_NC[labelled_N] = sure_NC[labelled_N]
        after_NC = _mixed(own_NC, normalised(edges_NN @ own_NC), config)
        after_NC[labelled_N] = sure_NC[labelled_N]
        moved.append(float(np.abs(after_NC - beliefs_NC).sum(1).mean()))
        beliefs_NC = after_NC
        if moved[-1] < 1e-4:
            break
    return Believed(weights_NM, normalised(beliefs_NC**config.certainty), tuple(moved))


def weights_of(scores_MNC: Floats, knows_MC: NDArray[np.bool_], around_NC: Floats, config: MessagesConfig) -> Floats:
    """Weights float64[N,M] of the models for images that took no part, from what is believed around them."""
    beliefs_NC = _mixed(ensemble(scores_MNC, knows_MC), around_NC, config)
    return _shares(_agreement(scores_MNC, beliefs_NC), config)


def carried(edges_NK: Any, beliefs_KC: Floats) -> Floats:
    """What is believed around images, from those they are joined to (see ``beside``)."""
    return normalised(edges_NK @ beliefs_KC)


def joined(spaces: Sequence[NDArray[np.float32]], *, neighbours: int) -> Any:
    """Sparse float64[N,N]: the mean over feature spaces (unit vectors [N,D] each) of mutual nearest neighbourhood.

    A row sums to 1, or to 0 where an image is nobody's neighbour. The weight of an edge is its similarity.
    """
    from scipy import sparse  # type: ignore[import-untyped]

    total = None
    for space in spaces:
        near = _nearest(space, space, neighbours, is_own=True)
        mutual = near.minimum(near.T)
        total = mutual if total is None else total + mutual
    assert total is not None
    return _rows_to_one(sparse.csr_matrix(total))


def beside(spaces: Sequence[NDArray[np.float32]], others: Sequence[NDArray[np.float32]], *, neighbours: int) -> Any:
    """Sparse float64[N,K]: which of K others the images are nearest to."""
    from scipy import sparse

    total = sum(_nearest(one, other, neighbours, is_own=False) for one, other in zip(spaces, others, strict=True))
    return _rows_to_one(sparse.csr_matrix(total))


def _nearest(from_ND: NDArray[np.float32], to_KD: NDArray[np.float32], neighbours: int, *, is_own: bool) -> Any:
    from scipy import sparse

    count = min(neighbours, len(to_KD) - is_own)
    rows, columns, values = [], [], []
    for first in range(0, len(from_ND) if count > 0 else 0, _ROWS):
        alike = from_ND[first : first + _ROWS] @ to_KD.T
        if is_own:
            alike[np.arange(len(alike)), first + np.arange(len(alike))] = -np.inf
        nearest = np.argpartition(-alike, count - 1, axis=1)[:, :count]
        rows.append(np.repeat(first + np.arange(len(alike)), count))
        columns.append(nearest.ravel())
        values.append(np.maximum(np.take_along_axis(alike, nearest, 1), _FLOOR).ravel())
    shape = (len(from_ND), len(to_KD))
    if not rows:
        return sparse.csr_matrix(shape)
    return sparse.csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=shape)


def _rows_to_one(edges: Any) -> Any:
    from scipy import sparse

    sums = np.asarray(edges.sum(1)).ravel()
    return sparse.diags(1 / np.where(sums > 0, sums, 1)) @ edges


def _weights(scores_MNC: Floats, beliefs_NC: Floats, edges_NN: Any, config: MessagesConfig) -> Floats:
    agrees_NM = _agreement(scores_MNC, beliefs_NC)
    around_NM = edges_NN @ agrees_NM
    has_any_N1 = np.asarray(edges_NN.sum(1)) > 0
    return _shares(np.where(has_any_N1, _mixed(agrees_NM, around_NM, config), agrees_NM), config)


def _agreement(scores_MNC: Floats, beliefs_NC: Floats) -> Floats:
    """The chance that a model's class and the believed one are the same: float64[N,M]."""
    agrees_NM: Floats = np.einsum("mnc,nc->nm", scores_MNC, beliefs_NC)
    return agrees_NM


def _shares(agrees_NM: Floats, config: MessagesConfig) -> Floats:
    return normalised(np.maximum(agrees_NM, _FLOOR) ** config.sharpness)


def _mixed(own: Floats, around: Floats, config: MessagesConfig) -> Floats:
    mixed: Floats = (1 - config.around) * own + config.around * around
    return mixed
