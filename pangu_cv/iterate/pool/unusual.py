"""How unlike the other images an image's oddest patches are, where nothing is labelled and most images are normal.

Mutual scoring in the manner of MuSc (Li et al., arXiv 2401.16753): a patch is normal where a few other images hold one
like it. Each patch gets the mean distance to its nearest patch in the ``NEAREST`` likest of R reference images, an
image the mean of its oddest patches. What those patches look like tells one kind of defect from another (ours).

Shapes: B images, P patches, F features of a patch, R reference images.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NEAREST = 6  # images that must hold a like patch; docs/LOG.md: more of them hide what is rare
_BLOCK = 16  # reference images compared at once: their products stay in the processor's cache
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
        found = [self._one(patches_PF, name) for patches_PF, name in zip(patches_BPF, names, strict=True)]
        return Oddity(torch.stack([score for score, _ in found]), torch.stack([look for _, look in found]))

    def _one(self, patches_PF: Tensor, name: str) -> tuple[Tensor, Tensor]:
        is_other = torch.tensor([other != name for other in self.names])
        return oddest(self.distances(patches_PF)[:, is_other], patches_PF)

    def distances(self, patches_PF: Tensor) -> Tensor:
        """Of each patch to the nearest patch of each reference image: float32[P,R]."""
        halves = [self._nearest(patches_PF, at) for at in range(0, len(self.names), _BLOCK)]
        return (2 * torch.cat(halves, 1) + patches_PF.square().sum(1, keepdim=True)).clamp(min=0).sqrt()

    def _nearest(self, patches_PF: Tensor, start: int) -> Tensor:
        """To each of a block of images from ``start`` on: half the squared distance, less the patch's own half norm."""
        block_RPF = self.patches_RPF[start : start + _BLOCK]
        norms = self._half_norms_RP[start : start + _BLOCK].flatten()
        halves = torch.addmm(norms, patches_PF, block_RPF.flatten(0, 1).T, alpha=-1)
        return halves.view(len(patches_PF), *block_RPF.shape[:2]).amin(2)


def oddest(distances_PR: Tensor, patches_PF: Tensor) -> tuple[Tensor, Tensor]:
    """An image's score, and what its oddest patches look like, from distances to other images; 0 without any."""
    if not distances_PR.shape[1]:
        return torch.zeros(()), patches_PF.mean(0)
    likest = distances_PR.topk(min(NEAREST, distances_PR.shape[1]), dim=1, largest=False).values
    found = likest.mean(1).topk(max(1, round(ODDEST * len(patches_PF))))
    return found.values.mean(), patches_PF[found.indices].mean(0)
