"""Which labels are likely wrong: confident learning (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068).

An image's probabilities must come from a model that saw neither it nor what belongs to it: a wrong label that copies or
a group share would vouch for itself. A class's own threshold is the mean probability that its images get for it; an
image that reaches another class's threshold, and is likeliest of such a class, counts as one of that class whatever its
label says. Shapes: N images, C classes, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Suspect:
    """An image (its place) whose label is likely ``likely`` (a class's place); ``margin`` 0..1 ranks them."""

    at: int
    likely: int
    margin: float


def suspects(probabilities_NC: Floats, labels_N: NDArray[np.integer]) -> tuple[Suspect, ...]:  # type: ignore[type-arg]
    """The off-diagonal of the confident joint, the surest first. Rows of NaN are passed over."""
    known_N = ~np.isnan(probabilities_NC).any(1)
    classes = probabilities_NC.shape[1]
    thresholds_C = np.full(classes, np.inf)
    for at in range(classes):
        own = known_N & (labels_N == at)
        if own.any():
            thresholds_C[at] = probabilities_NC[own, at].mean()
    confident_NC = np.where(probabilities_NC >= thresholds_C, probabilities_NC, -1.0)
    likely_N = np.nan_to_num(confident_NC, nan=-1.0).argmax(1)
    is_confident_N = np.nan_to_num(confident_NC, nan=-1.0).max(1) >= 0
    found = []
    for at in np.flatnonzero(known_N & is_confident_N & (likely_N != labels_N)).tolist():
        margin = probabilities_NC[at, likely_N[at]] - probabilities_NC[at, labels_N[at]]
        found.append(Suspect(int(at), int(likely_N[at]), float(np.clip(margin, 0, 1))))
    return tuple(sorted(found, key=lambda one: (-one.margin, one.at)))


def left_out_probabilities(
    features_ND: NDArray[np.float32],
    labels_N: NDArray[np.integer],  # type: ignore[type-arg]
    *,
    groups: tuple[int, ...],
    kin: Sequence[str] | None = None,
) -> Floats:
    """What a ridge classifier fitted without an image gives it, exactly and for all at once: float64[N,C].

    Images that share a name in ``kin`` are left out together. NaN where that leaves none of the image's class, so that
    nothing can be said of it. Needs torch.
    """
    import torch

    from pangu_cv.models.ridge_head import RidgeHeadConfig, groups_of_class

    classes = int(labels_N.max()) + 1
    head = RidgeHeadConfig().build(groups=groups, classes=classes)
    labels = torch.from_numpy(np.asarray(labels_N, np.int64))
    logits_N1C = head.fit(torch.from_numpy(features_ND)[:, None], labels, kin)
    probabilities = logits_N1C[:, 0].softmax(-1).numpy().astype(np.float64)
    probabilities[(groups_of_class(labels, kin)[labels] < 2).numpy()] = np.nan
    return probabilities


def left_out_tags(
    features_ND: NDArray[np.float32],
    present_NC: NDArray[np.bool_],
    *,
    groups: tuple[int, ...],
    kin: Sequence[str] | None = None,
) -> Floats:
    """The same for classes that do not exclude each other: the probability of each to be there, float64[N,C].

    NaN where no other image, or no other group, has the class or lacks it as this one does.
    """
    import torch

    from pangu_cv.models.ridge_head import groups_of_class
    from pangu_cv.models.tag_head import TagHeadConfig

    head = TagHeadConfig().build(groups=groups, classes=present_NC.shape[1])
    present = torch.from_numpy(present_NC)
    left_out_NC = head.solve(torch.from_numpy(features_ND)[:, None], present.double(), kin)[:, 0]
    head.calibrate(left_out_NC, present)
    probabilities = np.asarray((left_out_NC * head.slope_C + head.offset_C).sigmoid().numpy(), np.float64)
    for number, side_N in enumerate(present.long().T):
        probabilities[(groups_of_class(side_N, kin)[side_N] < 2).numpy(), number] = np.nan
    return probabilities
