"""How unlike the other images an image's oddest patches are, where nothing is labelled and most images are normal.

Mutual scoring in the manner of MuSc (Li et al., arXiv 2401.16753): a patch is normal where a few other images hold one
like it. Each patch gets the mean distance to its nearest patch in the ``NEAREST`` likest of R reference images, an
image the mean of its oddest patches. What those patches look like tells one kind of defect from another (ours).

Shapes: B images, P patches of each, Q patches of any images, F features of a patch, R reference images.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

NEAREST = 6  # images that must hold a like patch; docs/LOG.md: more of them hide what is rare
_FIRST = 128  # references that every patch meets
_CANDIDATES = 0.25  # share of an image's patches that meet the others, docs/LOG.md
_PRODUCT = 1 << 21  # numbers of one product of patches: few large ones are fast, and their memory is bounded
ODDEST = 0.03  # share of an image's patches that its score is the mean of: ours; AnomalyDINO (2405.14529) takes 1 %


@dataclass(frozen=True)
class Oddity:
    """``scores_B``: distances 0..2; ``looks_BF``: mean of the oddest patches."""

    scores_B: Tensor
    looks_BF: Tensor


class References:
    """Patches of images drawn from the pool itself, ``patches_RPF``, and the names of those images."""

    def __init__(self, patches_RPF: Tensor, names: list[str]) -> None:
        self.patches_RPF, self.names = patches_RPF, names
        self._half_norms_RP = patches_RPF.square().sum(2) / 2
        self._places = {name: place for place, name in enumerate(names)}

    def __call__(self, patches_BPF: Tensor, names: list[str]) -> Oddity:
        """The oddity of B images; an image that is a reference itself is not compared with itself.

        The first ``_FIRST`` references tell which patches may be the oddest; only those meet the others.
        """
        near_BPR = self._distances(patches_BPF, names, slice(0, _FIRST))
        if len(self.names) > _FIRST:
            candidates = _unlike(near_BPR).topk(math.ceil(_CANDIDATES * patches_BPF.shape[1]), dim=1).indices[..., None]
            patches_BPF, near_BPR = patches_BPF.take_along_dim(candidates, 1), near_BPR.take_along_dim(candidates, 1)
            near_BPR = torch.cat([near_BPR, self._distances(patches_BPF, names, slice(_FIRST, None))], 2)
        oddest = _unlike(near_BPR).topk(max(1, round(ODDEST * self.patches_RPF.shape[1])), dim=1)
        return Oddity(oddest.values.mean(1), patches_BPF.take_along_dim(oddest.indices[..., None], 1).mean(1))

    def _distances(self, patches_BPF: Tensor, names: list[str], some: slice) -> Tensor:
        """Of each patch to the nearest patch of each of some references: [B,P,R], endless to the image itself."""
        patches_QF = patches_BPF.flatten(0, 1)
        references = self.patches_RPF[some]
        count = max(1, _PRODUCT // (len(patches_QF) * references.shape[1]))
        blocks = zip(torch.split(references, count), torch.split(self._half_norms_RP[some], count), strict=True)
        halves_RQ = torch.cat([_nearest(patches_QF, *block) for block in blocks])
        squares_QR = 2 * halves_RQ.T + patches_QF.square().sum(1, keepdim=True)
        distances_BPR = squares_QR.clamp(min=0).sqrt().view(*patches_BPF.shape[:2], -1)
        held = range(*some.indices(len(self.names)))
        for image, name in enumerate(names):
            if self._places.get(name, -1) in held:
                distances_BPR[image, :, self._places[name] - held.start] = torch.inf
        return distances_BPR


def _nearest(patches_QF: Tensor, block_RPF: Tensor, half_norms_RP: Tensor) -> Tensor:
    """To each of a block of images: half the squared distance, less the patch's own half norm; float32[R,Q]."""
    halves = torch.addmm(half_norms_RP.flatten()[:, None], block_RPF.flatten(0, 1), patches_QF.T, alpha=-1)
    return halves.view(*block_RPF.shape[:2], -1).amin(1)


def _unlike(distances_BPR: Tensor) -> Tensor:
    """The mean distance of each patch to the likest images: [B,P]; 0 where there is no other image."""
    likest = distances_BPR.topk(min(NEAREST, distances_BPR.shape[2]), dim=2, largest=False).values
    is_other = likest.isfinite()
    return likest.where(is_other, 0).sum(2) / is_other.sum(2).clamp(min=1)
