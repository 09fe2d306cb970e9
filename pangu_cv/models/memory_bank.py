"""A streaming coreset of normal patches under a hard memory cap, from which images can be taken away again.

Streaming k-centre in the manner of the doubling algorithm (Charikar et al., STOC 1997): a patch within ``radius`` of a
centre is covered and dropped; when the centres outgrow the cap the radius grows until they fit. Every patch ever added
lies within ``cover_bound`` of a centre.

Shapes: P patches of one image, D features, M centres.
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from pangu_cv.errors import DataError, SettingsError
from pangu_cv.settings import Settings

_BLOCK = 512  # rows compared at a time: bounds the scratch memory at _BLOCK × M floats
_GAP_SAMPLE = 1024  # centres whose nearest neighbours stand for all of them when the radius grows
_SHRINK = 0.25  # share of centres let go when the cap is reached; less is a fuller bank for more passes


class MemoryBankConfig(Settings):
    """The bank of normal patches."""

    max_mb: float = 10.0
    """Hard cap of the bank, in memory and in the exported graph, in millions of bytes."""

    def build(self, features: int) -> "MemoryBank":
        """An empty bank for vectors of ``features`` numbers."""
        capacity = int(self.max_mb * 1e6 // bytes_per_centre(features))
        if capacity < 16:
            raise SettingsError(f"bank.max_mb: {self.max_mb} holds {capacity} vectors of {features}; 16 are the least")
        return MemoryBank(capacity=capacity, features=features)


def bytes_per_centre(features: int) -> int:
    """A float32 vector, its owner (int32) and its count of covered patches (int64)."""
    return 4 * features + 4 + 8


@dataclass(frozen=True)
class Removal:
    """What taking an image away did: centres dropped with it; patches of others they stood for are covered no more."""

    centres: int
    covered_patches_of_others: int


class MemoryBank:
    """Centres ``vectors_MD`` with the image each came from; a fixed block of memory that never grows."""

    def __init__(self, *, capacity: int, features: int) -> None:
        self.capacity = capacity
        self.radius = 0.0
        self.cover_bound = 0.0
        self.images: list[str] = []
        self._places: dict[str, int] = {}
        self.size = 0
        self._vectors = torch.zeros(capacity, features)
        self._owners = torch.full((capacity,), -1, dtype=torch.int32)
        self._covered = torch.zeros(capacity, dtype=torch.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of the centres held now; never more than the cap."""
        return self.size * bytes_per_centre(self._vectors.shape[1])

    @property
    def vectors_MD(self) -> Tensor:
        """The centres."""
        return self._vectors[: self.size]

    @property
    def owners_M(self) -> Tensor:
        """For each centre the position in ``images`` of the image it is a patch of."""
        return self._owners[: self.size]

    @property
    def covered_M(self) -> Tensor:
        """For each centre the patches it stands for: those of other images, and former centres."""
        return self._covered[: self.size]

    def add(self, name: str, patches_PD: Tensor) -> int:
        """Add one image's patches, cover them, and return how many became centres.

        Raises DataError when the image is there already.
        """
        if name in self._places:
            raise DataError(f"the bank holds '{name}' already; remove it first to replace it")
        self._places[name] = len(self.images)
        self.images.append(name)
        fresh = self._uncovered(patches_PD)
        while self.size + len(fresh) > self.capacity:
            if self.size == 0 or len(fresh) > self.capacity:
                self._widen(fresh)
                fresh = fresh[cover(fresh, radius=self.radius)]
            else:
                self._thin()
                fresh = self._uncovered(fresh)
        end = self.size + len(fresh)
        self._vectors[self.size : end] = fresh
        self._owners[self.size : end] = len(self.images) - 1
        self._covered[self.size : end] = 0
        self.size = end
        return len(fresh)

    def remove(self, name: str) -> Removal:
        """Drop every vector that came from an image; nothing of it stays.

        Patches of other images that its centres stood for lose that cover, so scores of similar images may rise:
        the count is returned. Raises DataError when the image is not in the bank.
        """
        if name not in self._places:
            raise DataError(f"the bank holds no image '{name}'; it holds {len(self._places)} images")
        place = self._places.pop(name)
        gone = self.owners_M == place
        removal = Removal(int(gone.sum()), int(self.covered_M[gone].sum()))
        self._keep(torch.nonzero(~gone).flatten())
        self.images[place] = ""  # positions of the others stay valid
        return removal

    def distances(self, patches_PD: Tensor, *, without: Collection[str] = ()) -> Tensor:
        """Distance of each patch to its nearest centre, as if the images ``without`` had not been added.

        Float32[P]; infinite where no centre is left.
        """
        centres = self.vectors_MD
        if without:
            gone = torch.tensor([self._places[name] for name in without], dtype=torch.int32)
            centres = centres[~torch.isin(self.owners_M, gone)]
        if len(centres) == 0:
            return torch.full((len(patches_PD),), float("inf"))
        return nearest(patches_PD, centres).distances_P

    def _uncovered(self, patches_PD: Tensor) -> Tensor:
        """The patches that must become centres: not within the radius of one, nor of an earlier one among them."""
        if self.size:
            found = nearest(patches_PD, self.vectors_MD)
            inside = found.distances_P <= self.radius
            self._covered[: self.size] += torch.bincount(found.indices_P[inside], minlength=self.size)
            patches_PD = patches_PD[~inside]
        return patches_PD[cover(patches_PD, radius=self.radius)] if self.radius > 0 else patches_PD

    def _thin(self) -> None:
        """Grow the radius until about a quarter of the centres lies within it of another, and let those go."""
        self._widen(self.vectors_MD)
        kept = cover(self.vectors_MD, radius=self.radius)
        dropped = torch.ones(self.size, dtype=torch.bool)
        dropped[kept] = False
        heirs = nearest(self.vectors_MD[dropped], self.vectors_MD[kept]).indices_P
        inherited = torch.zeros(len(kept), dtype=torch.int64)
        inherited.index_add_(0, heirs, self.covered_M[dropped] + 1)
        self._covered[kept] += inherited
        self._keep(kept)

    def _widen(self, vectors_MD: Tensor) -> None:
        """Grow the radius such that a cover of these vectors lets about a quarter of them go."""
        sample = torch.arange(0, len(vectors_MD), max(1, len(vectors_MD) // _GAP_SAMPLE))
        gaps = nearest(vectors_MD[sample], vectors_MD, excluding=sample).distances_P
        # each pair closer than the radius loses one of two, so twice the share must lie within it
        self.radius = max(1.05 * self.radius, float(gaps.quantile(min(1.0, 2 * _SHRINK))), 1e-6)
        self.cover_bound += self.radius

    def _keep(self, rows: Tensor) -> None:
        for buffer in (self._vectors, self._owners, self._covered):
            buffer[: len(rows)] = buffer[rows]
            buffer[len(rows) :] = 0  # what was let go is not kept in the unused end
        self.size = len(rows)

    def state(self) -> dict[str, Tensor]:
        """Tensors to save; ``images`` and ``capacity`` go beside them as plain values."""
        scalars = torch.tensor([self.radius, self.cover_bound], dtype=torch.float64)
        return {
            "vectors": self.vectors_MD.clone(),
            "owners": self.owners_M.clone(),
            "covered": self.covered_M.clone(),
            "radius": scalars,
        }

    @classmethod
    def restore(cls, state: dict[str, Tensor], *, images: list[str], capacity: int) -> "MemoryBank":
        """The bank ``state`` was taken of."""
        vectors = state["vectors"]
        bank = cls(capacity=max(capacity, len(vectors)), features=vectors.shape[1])
        bank.size, bank.images = len(vectors), list(images)
        bank._places = {name: place for place, name in enumerate(images) if name}
        bank._vectors[: bank.size], bank._owners[: bank.size] = vectors, state["owners"]
        bank._covered[: bank.size] = state["covered"]
        bank.radius, bank.cover_bound = state["radius"].tolist()
        return bank


@dataclass(frozen=True)
class Nearest:
    """For each of P queries the distance to the nearest centre and its index."""

    distances_P: Tensor
    indices_P: Tensor


def nearest(queries_PD: Tensor, centres_MD: Tensor, *, excluding: Tensor | None = None) -> Nearest:
    """Exact nearest neighbours, Euclidean; ``excluding`` int64[P] names one centre per query that does not count."""
    if len(queries_PD) == 0:
        return Nearest(torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    squares, indices = [], []
    half_norms_M = centres_MD.square().sum(1) / 2
    for start in range(0, len(queries_PD), _BLOCK):
        block = queries_PD[start : start + _BLOCK]
        halves = torch.addmm(half_norms_M, block, centres_MD.T, alpha=-1)
        if excluding is not None:
            halves[torch.arange(len(block)), excluding[start : start + _BLOCK]] = float("inf")
        value, index = halves.min(1)
        squares.append(2 * value + block.square().sum(1))
        indices.append(index)
    return Nearest(torch.cat(squares).clamp(min=0).sqrt(), torch.cat(indices))


def cover(vectors_ND: Tensor, *, radius: float) -> Tensor:
    """Indices of a maximal subset no two of which lie within ``radius``, the earlier taken first: int64[K]."""
    kept = torch.zeros(0, dtype=torch.int64)
    for start in range(0, len(vectors_ND), _BLOCK):
        block = vectors_ND[start : start + _BLOCK]
        rows = torch.arange(start, start + len(block))
        if len(kept):
            free = nearest(block, vectors_ND[kept]).distances_P > radius
            block, rows = block[free], rows[free]
        kept = torch.cat([kept, rows[_cover_block(block, radius)]])
    return kept


def _cover_block(block_ND: Tensor, radius: float) -> Tensor:
    squares = block_ND.square().sum(1)
    near = ((squares[:, None] + squares - 2 * block_ND @ block_ND.T) <= radius * radius).numpy()
    covered = near[:, 0] & False
    kept = []
    for row in range(len(block_ND)):
        if not covered[row]:
            kept.append(row)
            covered |= near[row]
    return torch.tensor(kept, dtype=torch.int64)
