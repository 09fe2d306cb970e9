"""How unlike the other images an image's oddest patches are, where nothing is labelled and most images are normal.

Mutual scoring in the manner of MuSc (Li et al., arXiv 2401.16753): a patch is normal where a few other images hold one
like it. Each patch gets the mean distance to its nearest patch in the ``NEAREST`` likest of R reference images, an image
the mean of its oddest patches. What those patches look like tells one kind of defect from another (ours).

Shapes: B images, P patches, F features of a patch, R reference images.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NEAREST = 6  # images that must hold a like patch; docs/LOG.md: more of them hide what is rare
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
        self._half_norms = patches_RPF.flatten(0, 1).square().sum(1) / 2

    def __call__(self, patches_BPF: Tensor, names: list[str]) -> Oddity:
        """The oddity of B images; an image that is a reference itself is not compared with itself."""
        found = [self._one(patches_PF, name) for patches_PF, name in zip(patches_BPF, names, strict=True)]
        return Oddity(torch.stack([score for score, _ in found]), torch.stack([look for _, look in found]))

    def _one(self, patches_PF: Tensor, name: str) -> tuple[Tensor, Tensor]:
        references, patches, features = self.patches_RPF.shape
        flat = self.patches_RPF.reshape(-1, features)
        halves = torch.addmm(self._half_norms, patches_PF, flat.T, alpha=-1)
        nearest_PR = halves.view(-1, references, patches).amin(2)
        if name in self.names:
            nearest_PR[:, self.names.index(name)] = float("inf")
        others = references - (name in self.names)
        if not others:
            return torch.zeros(()), patches_PF.mean(0)
        squares_PR = 2 * nearest_PR + patches_PF.square().sum(1, keepdim=True)
        likest = squares_PR.topk(min(NEAREST, others), dim=1, largest=False).values
        distances_P = likest.clamp(min=0).sqrt().mean(1)
        oddest = distances_P.topk(max(1, round(ODDEST * len(distances_P))))
        return oddest.values.mean(), patches_PF[oddest.indices].mean(0)
