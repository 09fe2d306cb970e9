"""Which images a step sees, as views; every choice follows from (seed, step), so that any step can be done again.

A batch comes from one dataset: images of other datasets are too easy to tell apart to teach anything. A share of it are
neighbours of the others, so that the neighbour term meets its positives.

Shapes: B images of a batch (global), S view side.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pangu_cv.data.pixel_cache import PixelCache
from pangu_cv.errors import DataError, ImageError
from pangu_cv.pretrain.images import Images
from pangu_cv.pretrain.neighbours import MOST, IntArray
from pangu_cv.pretrain.relations import UNKNOWN, Facts
from pangu_cv.pretrain.views import ViewsConfig


class Batch(NamedTuple):
    """Views of B images of one dataset, pixels uint8[B,2,S,S,3] (``local`` [B,L,s,s,3]), ``seed_B`` for masks."""

    inputs: Tensor
    clean: Tensor
    local: Tensor
    seed_B: Tensor
    facts: Facts

    def rows(self, rows: Tensor | slice) -> "Batch":
        """Of some images."""
        return Batch(self.inputs[rows], self.clean[rows], self.local[rows], self.seed_B[rows], self.facts.rows(rows))

    def to(self, device: torch.device) -> "Batch":
        """On another device; views that were not damaged are sent once."""
        inputs, local, seed_B = (one.to(device, non_blocking=True) for one in (self.inputs, self.local, self.seed_B))
        clean = inputs if self.clean is self.inputs else self.clean.to(device, non_blocking=True)
        return Batch(inputs, clean, local, seed_B, self.facts.to(device))


class Schedule:
    """The images of every step.

    Datasets take turns at random, by the square root of their size times their weight: small ones are seen more often
    than their share, large ones still most. Within a dataset every image comes once before any comes again.
    """

    def __init__(self, images: Images, *, weights: Sequence[float], batch: int, steps: int, seed: int) -> None:
        self.batch, self.seed = batch, seed
        self._members = [np.flatnonzero(images.source_M == source) for source in range(len(weights))]
        sizes = np.array([len(members) for members in self._members], float)
        share = np.sqrt(sizes) * np.asarray(weights, float) * (sizes > 1)
        if not share.any():
            raise DataError(
                "data: no dataset holds two images to learn from (copies, and images that targets measure on, are "
                "taken out), and pairs of one dataset are compared"
            )
        random = np.random.default_rng([seed, 0])
        self._source_of = random.choice(len(share), steps, p=share / share.sum())
        self._visit_of = np.zeros(steps, np.int64)  # how often the step's dataset was seen before
        for source in range(len(share)):
            visits = np.flatnonzero(self._source_of == source)
            self._visit_of[visits] = np.arange(len(visits))
        self._kept: dict[int, tuple[int, IntArray]] = {}

    def source(self, step: int) -> int:
        """The dataset of a step."""
        return int(self._source_of[step])

    def hosts(self, step: int, *, neighbour_share: float) -> IntArray:
        """Numbers of the images that come in their turn, int64[H]; the rest of the batch are neighbours of them."""
        size = self._size(step)
        return self._in_turn(step, size - int(size * neighbour_share))

    def images(self, step: int, near_MK: IntArray, *, neighbour_share: float) -> IntArray:
        """Image numbers of a step, int64[B]; in a dataset smaller than the batch an image never comes twice.

        ``neighbour_share`` is at most 0.5, since a host brings one guest. A guest stands behind its host, so that a
        batch cut into parts keeps them in one; pairs come first, so that parts of even size cut none.
        """
        size = self._size(step)
        hosts = self.hosts(step, neighbour_share=neighbour_share if near_MK.shape[1] else 0.0)
        guests = size - len(hosts)
        random = np.random.default_rng([self.seed, 1, step])
        chosen = set(hosts.tolist())
        pairs: list[int] = []
        for host in hosts[:guests].tolist():
            near = near_MK[host]
            candidates = [int(n) for n in near[near != UNKNOWN] if int(n) not in chosen]
            if candidates:
                guest = candidates[random.integers(len(candidates))]
                chosen.add(guest)
                pairs += [host, guest]
        order = dict.fromkeys([*pairs, *hosts.tolist()])
        if len(order) < size:  # hosts whose neighbours are unknown or chosen
            order |= dict.fromkeys(_any_of(self._members[self.source(step)], size, random).tolist())
        return np.fromiter(order, np.int64)[:size]

    def _size(self, step: int) -> int:
        return min(self.batch, len(self._members[self.source(step)]))

    def _in_turn(self, step: int, size: int) -> IntArray:
        """The next images of the dataset's own shuffled order, as far into it as its earlier steps have come."""
        source = self.source(step)
        count = len(self._members[source])
        position = int(self._visit_of[step]) * size
        found: dict[int, None] = {}
        while len(found) < size:  # where two turns meet, an image of both is taken once
            turn, at = divmod(position, count)
            found[int(self._order(source, turn)[at])] = None
            position += 1
        return np.fromiter(found, np.int64)

    def _order(self, source: int, turn: int) -> IntArray:
        if self._kept.get(source, (None,))[0] != turn:
            order = np.random.default_rng([self.seed, 2, source, turn]).permutation(self._members[source])
            self._kept[source] = (turn, order)
        return self._kept[source][1]


def _any_of(members: IntArray, count: int, random: np.random.Generator) -> IntArray:
    """Some at random, none twice."""
    if len(members) > MOST:  # to permute millions takes a good part of a step
        return random.choice(members, count, replace=False)
    return random.permutation(members)[:count]


def _in_own_words(loader: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What a worker process could not read, without the lines of code that torch puts before it."""
    try:
        yield from loader
    except DataError as error:
        raise DataError(str(error).strip().rpartition("\n")[2].rpartition("DataError: ")[2]) from None


class _Views(Dataset[dict[str, Any]]):
    """One image as its views; an item is asked for by (image number, seed)."""

    def __init__(self, images: Images, cache: PixelCache, views: ViewsConfig) -> None:
        self.images, self.cache = images, cache
        self.views = views.build()

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        number, seed = key
        try:
            image = self.cache.read(self.images.paths[number])
        except ImageError as error:  # a worker hands on errors of one argument only
            raise DataError(f"{error}; it could be read when the run began: put it back, and the run goes on") from None
        seen = self.views(image, seed=seed)
        names = ("inputs", "clean", "local") if self.views.config.damage.p else ("inputs", "local")
        pixels = {name: torch.from_numpy(getattr(seen, name)) for name in names}
        return pixels | {"number": number, "seed": seed % 2**62}


@dataclass(frozen=True)
class Feed:
    """All that a run of steps needs; ``rank`` of ``world`` processes each take every ``world``-th image of a batch."""

    images: Images
    cache: PixelCache
    views: ViewsConfig
    schedule: Schedule
    neighbour_share: float
    workers: int
    rank: int = 0
    world: int = 1
    for_gpu: bool = False

    def hosts(self, first: int, end: int) -> IntArray:
        """Numbers of the images whose neighbours are asked for in steps ``first`` to ``end``, int64[H], ascending."""
        shown = [self.schedule.hosts(step, neighbour_share=self.neighbour_share) for step in range(first, end)]
        return np.unique(np.concatenate(shown))

    def batches(self, first: int, end: int, near_MK: Tensor) -> Iterator[Batch]:
        """The batches of steps ``first`` to ``end``, in order."""
        near = near_MK.numpy()
        wanted = (self._keys(step, near) for step in range(first, end))
        loader: DataLoader[dict[str, Any]] = DataLoader(
            _Views(self.images, self.cache, self.views),
            batch_sampler=wanted,  # type: ignore[arg-type]  # whatever gives lists of keys will do
            num_workers=self.workers,
            pin_memory=self.for_gpu,
        )
        for items in _in_own_words(loader):
            yield self._batch(items, near_MK)

    def _keys(self, step: int, near_MK: IntArray) -> list[tuple[int, int]]:
        numbers = self.schedule.images(step, near_MK, neighbour_share=self.neighbour_share)
        numbers = numbers[: len(numbers) // self.world * self.world]
        seeds = np.random.SeedSequence([self.schedule.seed, 3, step]).generate_state(len(numbers), np.uint64)
        keys = [(int(n), int(s)) for n, s in zip(numbers, seeds, strict=True)]
        return keys[self.rank :: self.world]

    def _batch(self, items: dict[str, Any], near_MK: Tensor) -> Batch:
        number_B = items["number"]
        facts = Facts(
            image_N=number_B,
            label_N=torch.from_numpy(self.images.label_M)[number_B],
            text_N=torch.from_numpy(self.images.text_M)[number_B],
            near_NK=near_MK[number_B],
        )
        return Batch(items["inputs"], items.get("clean", items["inputs"]), items["local"], items["seed"], facts)
