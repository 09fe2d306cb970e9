"""Decisions of several models on one list of classes; a model has no say on a class that it does not know.

Shapes: M models, N images, K classes of one model, C classes of all together.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics.interval import FloatArray

Floats = NDArray[np.float64]
CERTAINTY = 2.0
"""Power of what is taught: votes of several models leave more doubt than there is."""
_LEAST = 1e-12


def spread(scores_NK: FloatArray, own: Sequence[str], classes: Sequence[str]) -> Floats:
    """The scores as columns of ``classes``: 0 for those that the model does not know."""
    found_NC = np.zeros((len(scores_NK), len(classes)))
    found_NC[:, [classes.index(name) for name in own]] = scores_NK
    return found_NC


def known(own: Sequence[Sequence[str]], classes: Sequence[str]) -> NDArray[np.bool_]:
    """Which model knows which class: bool[M,C]."""
    return np.array([[name in mine for name in classes] for mine in own])


def ensemble(scores_MNC: Floats, knows_MC: NDArray[np.bool_], weights_NM: Floats | None = None) -> Floats:
    """Probabilities float64[N,C]: of each class the mean score among the models that know it, rows made to sum to 1.

    With ``weights_NM`` (each row sums to 1) a model's vote counts so much; equal weights are the plain ensemble.
    """
    votes_MNC = scores_MNC if weights_NM is None else scores_MNC * weights_NM.T[:, :, None]
    votes_NC = votes_MNC.sum(0) / np.maximum(knows_MC.sum(0), 1)
    return normalised(votes_NC)


def normalised(votes_NC: Floats) -> Floats:
    """Each row made to sum to 1; one without any vote is spread over all classes."""
    sums_N1 = votes_NC.sum(1, keepdims=True)
    shares_NC: Floats = np.where(sums_N1 > _LEAST, votes_NC / np.maximum(sums_N1, _LEAST), 1 / votes_NC.shape[1])
    return shares_NC
