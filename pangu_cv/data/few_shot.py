"""Drawing k labelled samples per class, and holding samples out, the same ones on every machine.

A draw depends on the paths below the samples' common folder, the labels, the groups and the seed; not on the order of
the input, and for one class not on the others. The draw of k shots is part of the draw of k + 1.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError


@dataclass(frozen=True, slots=True)
class FewShotDraw:
    """``support`` is what a run may see; ``dropped`` shares a group with it; ``rest`` shares none."""

    support: tuple[Sample, ...]
    rest: tuple[Sample, ...]
    dropped: tuple[Sample, ...]
    shots: int | None
    seed: int


@dataclass(frozen=True, slots=True)
class Holdout:
    """Two parts that share no group and make up the whole."""

    kept: tuple[Sample, ...]
    held_out: tuple[Sample, ...]


def draw(samples: Iterable[Sample], *, shots: int | None, seed: int) -> tuple[Sample, ...]:
    """``shots`` samples of each class without replacement, from as many groups as there are; None means all.

    Unlabelled samples are passed over. The result is sorted by class, then in the order drawn. Raises DataError if a
    class has fewer than ``shots`` samples, or nothing has a label.
    """
    classes = _by_class(samples)
    if shots is None:
        return tuple(sample for label in sorted(classes) for sample in classes[label])
    if shots < 1:
        raise DataError(f"shots: {shots} found; at least 1 is needed, or none given for all")
    short = {label: len(found) for label, found in sorted(classes.items()) if len(found) < shots}
    if short:
        listed = ", ".join(f"'{label}' has {count}" for label, count in short.items())
        raise DataError(f"{shots} shots per class asked, but {listed}; label more images of them or lower shots")
    return tuple(
        sample
        for label in sorted(classes)
        for sample in _groups_apart(_shuffled(classes[label], seed, f"draw/{label}"))[:shots]
    )


def draw_split(samples: Iterable[Sample], *, shots: int | None, seed: int) -> FewShotDraw:
    """``draw``, and the rest of ``samples`` (unlabelled ones too) less those whose group was drawn from."""
    ordered = _sorted(samples)
    support = draw(ordered, shots=shots, seed=seed)
    chosen = set(support)
    groups = {s.group for s in support if s.group is not None}
    others = [s for s in ordered if s not in chosen]
    rest = tuple(s for s in others if s.group not in groups)
    dropped = tuple(s for s in others if s.group in groups)
    return FewShotDraw(support, rest, dropped, shots, seed)


def holdout(samples: Iterable[Sample], *, fraction: float, seed: int) -> Holdout:
    """Hold out about ``fraction`` (0..1, exclusive) of each class, whole groups at a time.

    Without groups each class gives round(fraction * n), at least one where it has two, never all. With groups a class
    gives what comes nearest without its last sample. Raises DataError on another fraction.
    """
    if not 0 < fraction < 1:
        raise DataError(f"fraction: {fraction} found; allowed is between 0 and 1")
    ordered = _sorted(samples)
    total = Counter(s.label for s in ordered)
    units: dict[str | None, list[tuple[list[Sample], Counter[str | None]]]] = defaultdict(list)
    for unit in _units(_shuffled(ordered, seed, "holdout")):
        size = Counter(s.label for s in unit)
        for label in size:
            units[label].append((unit, size))
    held: set[Sample] = set()
    count: Counter[str | None] = Counter()
    for label in sorted(total, key=lambda name: (total[name], name or "")):  # the rarest class has the fewest choices
        target = min(max(1, int(fraction * total[label] + 0.5)), total[label] - 1)
        for unit, size in units[label]:
            nearer = abs(target - count[label] - size[label]) < abs(target - count[label])
            if nearer and unit[0] not in held and all(count[c] + size[c] < total[c] for c in size):
                held.update(unit)
                count += size
    return Holdout(tuple(s for s in ordered if s not in held), tuple(s for s in ordered if s in held))


def _sorted(samples: Iterable[Sample]) -> list[Sample]:
    # The common folder is a common prefix, so absolute paths sort as the relative ones do.
    return sorted(samples, key=lambda s: s.path.as_posix())


def _by_class(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    classes: dict[str, list[Sample]] = defaultdict(list)
    for sample in _sorted(samples):
        if sample.label is not None:
            classes[sample.label].append(sample)
    if not classes:
        raise DataError("nothing to draw from: no sample has a label")
    return classes


def _shuffled(samples: Sequence[Sample], seed: int, purpose: str) -> list[Sample]:
    if seed < 0:
        raise DataError(f"seed: {seed} found; allowed is 0 or more")
    spawn = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4], "little")
    # The raw stream is what numpy promises to keep between versions; Generator's methods may change.
    keys = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(spawn,))).random_raw(len(samples))
    return [samples[at] for at in np.argsort(keys, kind="stable")]


def _groups_apart(samples: Sequence[Sample]) -> list[Sample]:
    """First one sample of every group, then a second one, and so on; within a round the order is kept."""
    seen: Counter[str] = Counter()
    rounds: list[int] = []
    for sample in samples:
        rounds.append(seen[sample.group] if sample.group is not None else 0)
        if sample.group is not None:
            seen[sample.group] += 1
    return [samples[at] for at in sorted(range(len(samples)), key=rounds.__getitem__)]


def _units(samples: Sequence[Sample]) -> list[list[Sample]]:
    units: dict[object, list[Sample]] = defaultdict(list)
    for at, sample in enumerate(samples):
        units[at if sample.group is None else sample.group].append(sample)
    return list(units.values())
