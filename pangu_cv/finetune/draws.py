"""Which annotated images a trained task may see and which it is measured on; keeping them in memory within bounds."""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from pangu_cv.data.few_shot import holdout
from pangu_cv.data.few_shot_contents import draw_containing
from pangu_cv.data.sample import Dataset, Sample, Split
from pangu_cv.errors import DataError, ImageError
from pangu_cv.evaluate import to_measure
from pangu_runtime.decode import DecodeSpec, decode

Item = TypeVar("Item")
_NOTHING_LEFT = "no image is left to measure on; lower few_shot.shots or add a test split"
Parts = tuple[tuple[Sample, ...], tuple[Sample, ...]]


def parts_of(dataset: Dataset, is_annotated: Callable[[Sample], bool], *, needs: str) -> Parts:
    """Images to draw from, and those to measure on: the test split, else val, else none of its own.

    Where the part to measure on is all there is, it is drawn from. Images without annotation are passed over; raises
    DataError where all are.
    """
    annotated = [sample for sample in dataset if is_annotated(sample)]
    if not annotated:
        raise DataError(f"{dataset.root}: no image has {needs} (layout {dataset.layout})")
    test = to_measure(annotated)
    pool = to_learn_from(annotated, but=test) if test else tuple(annotated)
    return (pool, test) if pool else (test, ())


def to_learn_from(samples: Sequence[Sample], *, but: Iterable[Sample]) -> tuple[Sample, ...]:
    """The training part, else what is in no part, else val; never the test part, nor any image of ``but``."""
    measured = set(but)
    return _first_part([s for s in samples if s not in measured], "train", None, "val")


def _first_part(samples: Sequence[Sample], *names: Split | None) -> tuple[Sample, ...]:
    parts = (tuple(s for s in samples if s.split == name) for name in names)
    return next((part for part in parts if part), ())


def draw_support(
    pool: Sequence[Sample],
    test: Sequence[Sample],
    contents: Mapping[Sample, frozenset[str]],
    *,
    shots: int | None,
    seed: int,
) -> Parts:
    """The images of a run that show each class ``shots`` times (None: all), and those it is measured on.

    Without a test part that is what was not drawn, or a fifth that is held out where all are asked for. Of a test part,
    images of a group that was learnt are left out.
    """
    kept = list(pool)
    if not test and shots is None:
        kept = _all_but_a_fifth(kept, contents, seed=seed)
    drawn = draw_containing(kept, contents, shots=shots, seed=seed)
    support = drawn.support
    if shots is None:  # images that show nothing teach what is not there
        support = (*support, *(s for s in kept if not contents[s]))
    seen = set(kept) if shots is None else set(support)
    measured = tuple(test) or (drawn.rest if shots is not None else tuple(s for s in pool if s not in seen))
    return support, apart(support, measured)


def apart(support: Iterable[Sample], measured: Sequence[Sample]) -> tuple[Sample, ...]:
    """What of ``measured`` shares no group with the labelled images; raises DataError where that is nothing.

    Parts that a layout names may tear groups.
    """
    if not measured:
        raise DataError(_NOTHING_LEFT)
    groups = {s.group for s in support if s.group is not None}
    left = tuple(s for s in measured if s.group not in groups)
    if not left:
        raise DataError(
            f"no image is left to measure on: all {len(measured)} are of groups that labelled images are of too; lower "
            "few_shot.shots, set data.split=anew, or add test images of groups of their own"
        )
    return left


def torn_note(
    draws: Iterable[tuple[Collection[Sample], Collection[Sample]]], shown: Callable[[Sample], Iterable[str]]
) -> list[str]:
    """A note on test images that are of a group that was learnt, given those left out and those measured of each draw,
    and which classes are not measured for it."""
    left_out, gone = set[int](), set[str]()
    for left, measured in draws:
        left_out.add(len(left))
        gone |= _classes(left, shown) - _classes(measured, shown)
    most = max(left_out)
    if not most:
        return []
    number = f"{most}" if len(left_out) == 1 else f"up to {most}"
    lost = f"; no test image is left of {', '.join(sorted(gone))}, which no figure counts" if gone else ""
    return [f"test images not measured, because labelled ones are of their group: {number}{lost}"]


def _classes(samples: Iterable[Sample], shown: Callable[[Sample], Iterable[str]]) -> set[str]:
    return {name for sample in samples for name in shown(sample)}


def _all_but_a_fifth(pool: Sequence[Sample], contents: Mapping[Sample, frozenset[str]], *, seed: int) -> list[Sample]:
    """What is learnt of a pool without a test part: every class it shows.

    Boxes and masks are no label to hold out by. Where all images of a class were held out, one of each class stays and
    a fifth of the others is held out.
    """
    parts = holdout(pool, fraction=0.2, seed=seed)
    learnt, shown = (frozenset[str]().union(*(contents[s] for s in samples)) for samples in (parts.kept, pool))
    if learnt == shown:
        return list(parts.kept)
    one_each = draw_containing(pool, contents, shots=1, seed=seed)
    held = set(holdout(one_each.rest, fraction=0.2, seed=seed).held_out)
    return [s for s in pool if s not in held]


def donor(
    support: Sequence[Sample], load: Callable[[Sample], Item], *, place: int, chance: float, seed: int
) -> Item | None:
    """Another labelled image than that at ``place``, whose defect may be pasted in; None where none is wanted."""
    if not chance or len(support) < 2:
        return None
    other = int(np.random.default_rng([seed, 3]).integers(len(support) - 1))
    return load(support[other + (other >= place)])


def is_readable(path: Path, spec: DecodeSpec) -> bool:
    """Whether the file's pixels can be had."""
    try:
        decode(path, spec=spec)
    except ImageError:
        return False
    return True


class Kept(Generic[Item]):
    """``read(sample)`` with the latest results kept, up to a number of bytes."""

    def __init__(
        self, read: Callable[[Sample], Item], size_of: Callable[[Item], int], *, most_bytes: int = 2 * 2**30
    ) -> None:
        self.read, self.size_of, self.most_bytes = read, size_of, most_bytes
        self._kept: OrderedDict[Path, Item] = OrderedDict()
        self._bytes = 0

    def __call__(self, sample: Sample) -> Item:
        """What was read of the sample."""
        if sample.path in self._kept:
            self._kept.move_to_end(sample.path)
            return self._kept[sample.path]
        item = self.read(sample)
        self._kept[sample.path] = item
        self._bytes += self.size_of(item)
        while self._bytes > self.most_bytes and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= self.size_of(oldest)
        return item
