"""Labelled images cut into parts that are left out in turn.

An image may show several classes, so the parts are dealt out class by class, the rarest first, always to the part that
has fewest of it: iterative stratification (Sechidis et al. 2011, doi:10.1007/978-3-642-23808-6_10), here of whole
groups.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from pangu_cv.data.sample import Sample

Shown = Mapping[Sample, frozenset[str]]
"""The classes that an image shows."""


def folds_of(support: Sequence[Sample], count: int, *, seed: int, shown: Shown | None = None) -> list[list[Sample]]:
    """At most ``count`` parts with each class spread evenly and groups whole; without ``shown`` by the images' labels.

    What is learnt without one of them knows every class: an image or group that alone shows a class is in none of them.
    To show nothing is a class too.
    """
    units: dict[object, list[Sample]] = defaultdict(list)
    for at, sample in enumerate(support):
        units[at if sample.group is None else sample.group].append(sample)
    showing: dict[str, list[object]] = defaultdict(list)
    for unit, members in units.items():
        for name in sorted({name for s in members for name in (shown[s] if shown else {str(s.label)}) or {""}}):
            showing[name].append(unit)
    alone = {of_class[0] for of_class in showing.values() if len(of_class) == 1}
    random = np.random.default_rng([seed, 11])
    fold_of: dict[object, int] = {}
    sizes: Counter[int] = Counter()
    for name in sorted(showing, key=lambda one: (len(showing[one]), one)):
        dealt = Counter(fold_of[unit] for unit in showing[name] if unit in fold_of)
        free = [unit for unit in showing[name] if unit not in fold_of and unit not in alone]
        for at in random.permutation(len(free)):
            fold = min(range(count), key=lambda one: (dealt[one], sizes[one], one))
            fold_of[free[at]] = fold
            dealt[fold] += 1
            sizes[fold] += len(units[free[at]])
    for of_class in showing.values():  # dealt out by other classes they show, all of a class may have come to one part
        if all(unit in fold_of for unit in of_class) and len({fold_of[unit] for unit in of_class}) == 1:
            del fold_of[of_class[0]]
    folds: list[list[Sample]] = [[] for _ in range(count)]
    for unit, fold in fold_of.items():
        folds[fold] += units[unit]
    return [fold for fold in folds if fold]
