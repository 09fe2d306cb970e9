"""Defects that were missed once: patches nearer to one of them than to anything normal count as further from normal.

A patch at distance n from the nearest normal and d from the nearest known defect gets n + boost · max(0, n - d²/n). One
that is not nearer to a known defect keeps exactly its distance. (Squares: the root of a distance near 0 would blow up
the rounding of a graph.) Ours; the bank alone (PatchCore) can learn what is normal, not what is not.

Shapes: P patches, D features, K patches of known defects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from pangu_cv.models.memory_bank import cover, nearest

BOOSTS = (1.0, 2.0, 4.0, 8.0)
PATCHES_PER_IMAGE = 64


@dataclass(frozen=True, eq=False)
class KnownDefects:
    """Patches ``vectors_KD`` of missed defects, each from the image ``names[owner]``; at least one."""

    vectors_KD: Tensor
    owners: tuple[int, ...]
    names: tuple[str, ...]
    boost: float = BOOSTS[0]

    @classmethod
    def of(cls, images: Mapping[str, Tensor], *, boost: float = BOOSTS[0]) -> Self | None:
        """From patches by image; None where there are none."""
        images = {name: patches for name, patches in images.items() if len(patches)}
        if not images:
            return None
        owners = tuple(at for at, patches in enumerate(images.values()) for _ in range(len(patches)))
        return cls(torch.cat(list(images.values())), owners, tuple(images), boost)

    @property
    def images(self) -> dict[str, Tensor]:
        """Patches by image."""
        owner_K = torch.tensor(self.owners)
        return {name: self.vectors_KD[owner_K == at] for at, name in enumerate(self.names)}

    def raised(self, distances_P: Tensor, patches_PD: Tensor) -> Tensor:
        """The distances to normal, those of patches like a known defect raised."""
        squares_P = nearest(patches_PD, self.vectors_KD).distances_P.square()
        return raised(distances_P, squares_P, boost=self.boost)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain values to save."""
        return {"defects": self.vectors_KD}, {
            "owners": list(self.owners),
            "names": list(self.names),
            "boost": self.boost,
        }

    @classmethod
    def restore(cls, vectors_KD: Tensor, plain: Mapping[str, Any]) -> Self:
        """The memory ``state`` was taken of; raises ValueError for what is none."""
        owners, names = tuple(int(at) for at in plain["owners"]), tuple(str(name) for name in plain["names"])
        if len(owners) != len(vectors_KD) or not set(owners) <= set(range(len(names))):
            raise ValueError("the patches of known defects and their images do not go together")
        return cls(vectors_KD, owners, names, float(plain["boost"]))


def raised(normal_P: Tensor, defect_squares_P: Tensor, *, boost: float) -> Tensor:
    """Distances to normal, raised where a known defect is nearer; of that the squared distance."""
    return normal_P + boost * (normal_P - defect_squares_P / normal_P.clamp(min=1e-6)).clamp(min=0)


def defect_patches(patches_PD: Tensor, distances_P: Tensor, inside_P: Tensor | None, *, top_k: int) -> Tensor:
    """The patches of a missed defect: those inside its mask, else the ``top_k`` least like normal; no near copies.

    At most ``PATCHES_PER_IMAGE``, the least like normal first.
    """
    if inside_P is None or not bool(inside_P.any()):
        order = distances_P.topk(min(top_k, len(distances_P))).indices
    else:
        order = torch.nonzero(inside_P).flatten()
        order = order[distances_P[order].argsort(descending=True)]
    chosen = patches_PD[order]
    spread = float(distances_P[order].median()) / 2
    return chosen[cover(chosen, radius=spread)][:PATCHES_PER_IMAGE].clone()


def raises_normals(patches_KD: Tensor, normals: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """For each patch the share of normal images in which some patch is nearer to it than to the other normals.

    ``normals`` are pairs of an image's patches and their distances to the other images: float64[K].
    """
    hits_K = torch.zeros(len(patches_KD), dtype=torch.float64)
    for patches_PD, distances_P in normals:
        hits_K += (torch.cdist(patches_PD, patches_KD) < distances_P[:, None]).any(0)
    return hits_K / max(len(normals), 1)
