"""What answers teach: a weighted ridge on features, soft targets included, with probabilities that hold.

Negative-label suppression of one-bit supervision (Hu et al., arXiv 2009.06168): the teacher's logits of classes that
were struck out for an image are pushed to -1e6 before its softmax becomes the student's target. Here both are ridges in
closed form: the teacher of a round is the student of the round before (our reading).

Shapes: N images, D features, C classes, L images with a label, U with a soft target.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pangu_cv.models.ridge_memory import RidgeMemory

SUPPRESSED = -1e6
_TEMPERATURES = np.geomspace(0.5, 64, 36)
_SHARES = np.linspace(0, 1, 11)
_TINY = 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Taught:
    """``rows_L`` with their ``labels_L`` (class numbers), and ``soft_rows_U`` with targets and weights."""

    rows_L: NDArray[np.int64]
    labels_L: NDArray[np.int64]
    soft_rows_U: NDArray[np.int64]
    soft_targets_UC: Floats
    soft_weights_U: Floats

    @classmethod
    def labels(cls, rows: Sequence[int] | NDArray[np.int64], labels: Sequence[int] | NDArray[np.int64]) -> "Taught":
        """Labels alone."""
        none = np.zeros(0, np.int64)
        return cls(np.asarray(rows, np.int64), np.asarray(labels, np.int64), none, np.zeros((0, 0)), np.zeros(0))


@dataclass(frozen=True, eq=False)
class Learnt:
    """``logits_NC`` of all images before suppression, already divided by the temperature; ``left_out_LC`` of the
    labelled ones by a ridge without them. ``weight_DC`` and ``bias_C`` are the ridge itself."""

    logits_NC: Floats
    left_out_LC: Floats
    weight_DC: Floats
    bias_C: Floats


def learn(features_ND: NDArray[np.float32], taught: Taught, *, classes: int, penalty: float) -> Learnt:
    """Fit, and calibrate the temperature on what each labelled image gets from a ridge without it."""
    rows = torch.from_numpy(features_ND[taught.rows_L]).double()
    targets_LC = torch.eye(classes, dtype=torch.float64)[torch.from_numpy(taught.labels_L)]
    memory = RidgeMemory.empty(features=features_ND.shape[1], outputs=classes).add(rows, targets_LC)
    if len(taught.soft_rows_U):
        soft = torch.from_numpy(features_ND[taught.soft_rows_U])
        memory = memory.add(soft, torch.from_numpy(taught.soft_targets_UC), torch.from_numpy(taught.soft_weights_U))
    solved = memory.solve(penalty)
    away_LD = rows - solved.mean_D
    hat_L = (away_LD * solved.inverse.times(away_LD.T).T).sum(1) + 1 / solved.total
    residual_LC = targets_LC - (rows @ solved.weight_DC + solved.bias_C)
    left_out_LC: Tensor = targets_LC - residual_LC / (1 - hat_L).clamp(min=_TINY)[:, None]
    scale = _scale(left_out_LC.numpy(), taught.labels_L)
    weight, bias = solved.weight_DC.numpy(), solved.bias_C.numpy()
    logits_NC = (features_ND @ weight.astype(np.float32)).astype(np.float64) + bias
    return Learnt(scale * logits_NC, scale * left_out_LC.numpy(), weight, bias)


def masked_teacher(logits_NC: Floats, struck_NC: NDArray[np.bool_]) -> Floats:
    """Soft targets: probabilities in which classes that were struck out have exactly 0; all 0 where none is left."""
    masked = np.where(struck_NC, SUPPRESSED, logits_NC)
    shares = np.exp(masked - masked.max(1, keepdims=True))
    shares[struck_NC] = 0.0
    total = shares.sum(1, keepdims=True)
    return np.asarray(np.divide(shares, total, out=np.zeros_like(shares), where=total > 0))


def probabilities(
    learnt: Learnt | None, taught: Taught, struck_NC: NDArray[np.bool_], *, prior_NC: Floats | None = None
) -> Floats:
    """What each image shows, given all that is known: rows sum to 1, or to 0 where every class was struck out.

    Classes without a label get the share that Good and Turing give the unseen, evenly. ``prior_NC`` is what a trained
    model says, a row of NaN where it has learnt the image; it is mixed in as far as it explains the labelled images
    that are new to it better than the ridge without them does.
    """
    images, classes = struck_NC.shape
    prior_NC = np.full((images, classes), np.nan) if prior_NC is None else prior_NC
    is_new_N = np.isfinite(prior_NC.sum(1))
    if learnt is None:
        found, share = np.full((images, classes), 1 / classes), 1.0
    else:
        found = _with_unseen(masked_teacher(learnt.logits_NC, np.zeros_like(struck_NC)), taught.labels_L)
        ridge_LC = masked_teacher(learnt.left_out_LC, np.zeros(learnt.left_out_LC.shape, bool))
        new_L = is_new_N[taught.rows_L]
        share = _prior_share(ridge_LC[new_L], prior_NC[taught.rows_L[new_L]], taught.labels_L[new_L])
    found[is_new_N] = share * prior_NC[is_new_N] + (1 - share) * found[is_new_N]
    found = np.where(struck_NC, 0.0, np.maximum(found, _TINY))
    total = found.sum(1, keepdims=True)
    return np.asarray(np.divide(found, total, out=np.zeros_like(found), where=total > 0))


def _with_unseen(found_NC: Floats, labels_L: NDArray[np.int64]) -> Floats:
    counts = np.bincount(labels_L, minlength=found_NC.shape[1])
    unseen = counts == 0
    if not unseen.any():
        return found_NC
    share = min(0.9, (np.count_nonzero(counts == 1) + 1) / (len(labels_L) + 1))
    mixed = np.where(unseen, 0.0, found_NC)
    mixed /= np.maximum(mixed.sum(1, keepdims=True), _TINY)
    return np.asarray((1 - share) * mixed + share * unseen / unseen.sum())


def _scale(left_out_LC: Floats, labels_L: NDArray[np.int64]) -> float:
    """1 / temperature of the least negative log-likelihood; one pseudo-observation each way keeps it finite."""
    losses = [
        _loss(masked_teacher(t * left_out_LC, np.zeros(left_out_LC.shape, bool)), labels_L) for t in _TEMPERATURES
    ]
    return float(
        _TEMPERATURES[int(np.argmin(np.array(losses) + np.log(_TEMPERATURES / 8) ** 2 / (2 + 2 * len(labels_L))))]
    )


def _prior_share(ridge_LC: Floats, prior_LC: Floats, labels_L: NDArray[np.int64]) -> float:
    """The share of least negative log-likelihood; a pull of about one label draws few to a half, where none says it."""
    said_2L = np.stack([ridge_LC, prior_LC])[:, np.arange(len(labels_L)), labels_L]
    mixed_SL = np.stack([1 - _SHARES, _SHARES], 1) @ said_2L
    losses_S = -np.log(mixed_SL + _TINY).sum(1) + (2 * _SHARES - 1) ** 2
    return float(_SHARES[int(np.argmin(losses_S))])


def _loss(shares_LC: Floats, labels_L: NDArray[np.int64]) -> float:
    return float(-np.log(shares_LC[np.arange(len(labels_L)), labels_L] + _TINY).mean())
