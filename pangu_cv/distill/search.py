"""Which sub-model: many are taken out and judged as they are, the best measured whole and taught for a while.

The better half is taught on, until one is left: successive halving (arXiv 1502.07943). How a sub-model does untaught
says how deep and wide it should be and little of how small its images may get, so candidates of several input sides go
into the trials.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pangu_cv.distill.budget import Budget, Cost
from pangu_cv.distill.extraction import Streams, extract, streams
from pangu_cv.distill.importance import Importance
from pangu_cv.distill.pupil import Pupil
from pangu_cv.distill.recipe import ExtractConfig
from pangu_cv.distill.settle import Settled, Settler
from pangu_cv.distill.shape import Shape
from pangu_cv.distill.student import student_levels, with_network
from pangu_cv.distill.teaching import Lesson
from pangu_cv.errors import SettingsError
from pangu_cv.progress import bar
from pangu_cv.tasks import TaskModel

_SEEN = 24  # images that a sub-model is taken out by
_JUDGED = 96
_TURNS = 2  # candidates measured whole for each that is tried, at most


@dataclass(frozen=True)
class Candidate:
    """A sub-model, what it costs (``is_measured``: whole; else added up of parts), its held-out loss as taken out and
    after its trials."""

    shape: Shape
    cost: Cost
    untaught: float
    taught: float | None = None
    is_measured: bool = False


@dataclass(frozen=True)
class Found:
    """The sub-model chosen, with what it learnt in its trials, and all that were looked at."""

    pupil: Pupil
    chosen: Candidate
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Extractor:
    """Takes sub-models out of one teacher, of which ``depth`` blocks are read."""

    teacher: TaskModel
    importance: Importance
    lesson: Lesson
    depth: int
    seen: dict[str, Any] = field(default_factory=dict)

    def pupil(self, shape: Shape) -> Pupil:
        """A sub-model ready to be taught."""
        return self.lesson.begin(self.model(shape))

    def loss(self, shape: Shape) -> float:
        """Of a sub-model as it is taken out; from fewer images than what is taught is begun with."""
        pupil = self.lesson.begin(self.model(shape), images=_JUDGED)
        return self.lesson.judge(pupil, images=_JUDGED)["total"]

    def model(self, shape: Shape) -> TaskModel:
        """A sub-model under the teacher's task, its head not fitted."""
        levels = student_levels(self.teacher)
        network = extract(self.teacher.backbone, shape, self.importance, self._streams(shape.image_px), levels=levels)
        return with_network(self.teacher, network, image_px=shape.image_px)

    def _streams(self, side: int) -> Streams:
        """Those of one side are kept: candidates come side by side."""
        if self.seen.get("side") != side:
            rows = self.lesson.rows(range(min(_SEEN, self.lesson.learnt)))
            prepared = self.lesson.inputs_of_side(rows, side)
            self.seen.update(side=side, streams=streams(self.teacher.backbone, prepared, depth=self.depth))
        found: Streams = self.seen["streams"]
        return found


def within(shapes: Sequence[Shape], cost: Callable[[Shape], Cost], budget: Budget, *, slack: float) -> list[Shape]:
    """The sub-models that use the budget, but for the slack; where none does the largest that is within it.

    Raises SettingsError where all are too large.
    """
    uses = {shape: budget.use(cost(shape)) for shape in shapes}
    fitting = [shape for shape, use in uses.items() if 1 - slack <= use <= 1]
    if not fitting and (smaller := [shape for shape, use in uses.items() if use < 1]):
        fitting = [max(smaller, key=uses.__getitem__)]
    if not fitting:
        least = min(shapes, key=uses.__getitem__)
        raise SettingsError(
            f"budget: the smallest sub-model ({least}) uses {uses[least]:.1f} times of it; ask for more, or name a "
            "smaller network: pangu-cv distill student ... student.name=..."
        )
    return fitting


def search(
    extractor: Extractor,
    shapes: Sequence[Shape],
    cost: Callable[[Shape], Cost],
    budget: Budget,
    config: ExtractConfig,
    *,
    slack: float,
    settler: Settler | None = None,
) -> Found:
    """Look at, try and choose; what is tried is measured whole before and corrected, where there is a ``settler``."""
    fitting = spread(within(shapes, cost, budget, slack=slack), config.looked_at)
    others = sorted(shape for shape in front_of(shapes, cost, config.front) if shape not in fitting)
    candidates: dict[Shape, Candidate] = {}
    with bar("taking sub-models out") as progress:
        for done, shape in enumerate([*fitting, *others], start=1):
            loss = extractor.loss(shape)
            candidates[shape] = Candidate(shape, cost(shape), loss)
            progress(done, len(fitting) + len(others), str(shape))
    ranked = best_of_sides([candidates[shape] for shape in fitting])
    left = ranked[: config.tried] if settler is None else settled(ranked, extractor, settler, count=config.tried)
    candidates |= {one.shape: one for one in left}
    pupils = {one.shape: extractor.pupil(one.shape) for one in left}
    while len(left) > 1:
        for at, one in enumerate(left):
            extractor.lesson.teach(pupils[one.shape], seconds=config.trial_seconds)
            loss = extractor.lesson.judge(pupils[one.shape])["total"]
            left[at] = candidates[one.shape] = replace(one, taught=loss)
        left = sorted(left, key=lambda one: one.taught or 0.0)[: len(left) // 2]
        pupils = {one.shape: pupils[one.shape] for one in left}
    return Found(pupils[left[0].shape], left[0], tuple(candidates.values()))


def settled(ranked: Sequence[Candidate], extractor: Extractor, settler: Settler, *, count: int) -> list[Candidate]:
    """Up to ``count`` of the first that use the budget as measured, each with its corrected shape.

    Those that cannot grow into it are taken where there are too few others. Raises SettingsError where all are above.
    """
    found: dict[Shape, Settled] = {}
    with bar("measuring whole sub-models") as progress:
        for done, one in enumerate(ranked[: _TURNS * count], start=1):
            corrected = settler(one.shape)
            if corrected is not None:
                found.setdefault(replace(corrected.shape, hidden=0), corrected)  # the budget says how many there are
            progress(done, _TURNS * count, str(one.shape))
            if sum(each.uses_budget for each in found.values()) == count:
                break
    if not found:
        raise SettingsError(
            f"budget: of {len(ranked)} sub-models that should fit by their parts none does as measured; ask for more, "
            "or measure on a quieter machine"
        )
    best = sorted(found.values(), key=lambda one: not one.uses_budget)[:count]
    return [Candidate(one.shape, one.cost, extractor.loss(one.shape), is_measured=True) for one in best]


def best_of_sides(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The best untaught of each input side, the best sides first; then the others, the best first."""
    ranked = sorted(candidates, key=lambda one: one.untaught)
    first: dict[int, Candidate] = {}
    for one in ranked:
        first.setdefault(one.shape.image_px, one)
    chosen = list(first.values())
    return [*chosen, *(one for one in ranked if one not in chosen)]


def spread(shapes: Sequence[Shape], count: int) -> list[Shape]:
    """So many of them, evenly over input sides and, within a side, over depths."""
    sides = sorted({shape.image_px for shape in shapes})
    chosen: list[Shape] = []
    for number, side in enumerate(sides):
        own = sorted(shape for shape in shapes if shape.image_px == side)
        share = (count - len(chosen)) // (len(sides) - number)
        places = np.linspace(0, len(own) - 1, min(max(share, 1), len(own))).round().astype(int)
        chosen += [own[at] for at in dict.fromkeys(places.tolist())]
    return chosen


def front_of(shapes: Sequence[Shape], cost: Callable[[Shape], Cost], count: int) -> list[Shape]:
    """Sub-models of all sizes: for each of ``count`` times the most even cut of all that takes about as long."""
    if not count:
        return []
    largest = max(shapes)
    times = np.log([cost(shape).ms for shape in shapes])
    chosen = []
    for time in np.linspace(times.min(), times.max(), count):
        near = [shape for shape, own in zip(shapes, times, strict=True) if abs(own - time) < 0.15]
        if near:
            chosen.append(min(near, key=lambda shape: _unevenness(shape, largest)))
    return list(dict.fromkeys(chosen))


def _unevenness(shape: Shape, largest: Shape) -> float:
    shares = [
        (shape.image_px / largest.image_px) ** 2,
        shape.depth / largest.depth,
        shape.heads / largest.heads,
        shape.hidden / largest.hidden,
    ]
    return float(np.std(shares))


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that no other beats in time and loss at once, the quickest first."""
    kept: list[Candidate] = []
    for one in sorted(candidates, key=lambda c: (c.cost.ms, c.untaught)):
        if not kept or one.untaught < kept[-1].untaught:
            kept.append(one)
    return kept
