"""How unlike the other images an image's oddest patches are, where nothing is labelled and most images are normal.

Mutual scoring in the manner of MuSc (Li et al., arXiv 2401.16753): a patch is normal where a few other images hold one
like it. Each patch gets the mean distance to its nearest patch in the ``NEAREST`` likest of R reference images, an
image the mean of its oddest patches. What those patches look like tells one kind of defect from another (ours).

Shapes: B images, P patches of each, Q patches of any images, F features of a patch, R reference images.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NEAREST = 6  # images that must hold a like patch; docs/LOG.md: more of them hide what is rare
_PRODUCT = 1 << 21  # numbers of one product of patches: few large ones are fast, and their memory is bounded
ODDEST = 0.03  # share of an image's patches that its score is the mean of, as in AnomalyDINO (arXiv 2405.14529)


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

    def __call__(self, patches_BPF: Tensor, names: list[str]) -> Oddity:
        """The oddity of B images; an image that is a reference itself is not compared with itself."""
        distances_BPR = self.distances(patches_BPF.flatten(0, 1)).view(*patches_BPF.shape[:2], -1)
        found = [
            oddest(distances_PR[:, self._others(name)], patches_PF)
            for distances_PR, patches_PF, name in zip(distances_BPR, patches_BPF, names, strict=True)
        ]
        return Oddity(torch.stack([score for score, _ in found]), torch.stack([look for _, look in found]))

    def _others(self, name: str) -> Tensor:
        return torch.tensor([other != name for other in self.names])

    def distances(self, patches_QF: Tensor) -> Tensor:
        """Of each patch, of any number of images, to the nearest patch of each reference image: float32[Q,R]."""
        count = max(1, _PRODUCT // (len(patches_QF) * self.patches_RPF.shape[1]))
        blocks = zip(torch.split(self.patches_RPF, count), torch.split(self._half_norms_RP, count), strict=True)
        halves_RQ = torch.cat([_nearest(patches_QF, *block) for block in blocks])
        return (2 * halves_RQ.T + patches_QF.square().sum(1, keepdim=True)).clamp(min=0).sqrt()


def _nearest(patches_QF: Tensor, block_RPF: Tensor, half_norms_RP: Tensor) -> Tensor:
    """To each of a block of images: half the squared distance, less the patch's own half norm; float32[R,Q]."""
    halves = torch.addmm(half_norms_RP.flatten()[:, None], block_RPF.flatten(0, 1), patches_QF.T, alpha=-1)
    return halves.view(*block_RPF.shape[:2], -1).amin(1)


def oddest(distances_PR: Tensor, patches_PF: Tensor) -> tuple[Tensor, Tensor]:
    """An image's score, and what its oddest patches look like, from distances to other images; 0 without any."""
    if not distances_PR.shape[1]:
        return torch.zeros(()), patches_PF.mean(0)
    likest = distances_PR.topk(min(NEAREST, distances_PR.shape[1]), dim=1, largest=False).values
    found = likest.mean(1).topk(max(1, round(ODDEST * len(patches_PF))))
    return found.values.mean(), patches_PF[found.indices].mean(0)
