"""What a head fitted in closed form has learnt from, so that it can learn on without the old images.

It holds sums over feature rows (``models/ridge_memory.py``), a few images of each class as feature rows
(``models/replay.py``), and of every image the digest of its file, its classes and its weight; neither pixels nor paths.

Rows are standardised and then scaled to unit length, so rows standardised otherwise could not be added. As long as
features as they came take no more than a few times the room of the sums, all of them are kept and standardised anew at
every step: learning in steps then equals fitting to all images at once. Then they are folded into the sums, and the
statistics stay: learning in steps equals fitting to all at once with these statistics. Both to rounding.

Shapes: N images, V views, D features, C classes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import chain, count, takewhile
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from pangu_cv.errors import DataError
from pangu_cv.features import content_digest
from pangu_cv.models.replay import Known, kept
from pangu_cv.models.ridge_map import Statistics, unit
from pangu_cv.models.ridge_memory import RidgeMemory, RidgeSolution
from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.multilabel import MultilabelModel

ClosedFormModel = ClassifyModel | MultilabelModel
_AT_ONCE = 128  # images that are left out in one product
_TORN = "of some groups not all images are kept, so images of known classes may be answered unknown more often"
_ROOM = 4  # times what the sums take, that features as they came may; docs/LOG.md: what folding early costs


@dataclass(frozen=True, eq=False)
class Lesson:
    """A labelled image: the digest of its file, its classes, its features in V views, whom it belongs together with."""

    digest: str
    classes: tuple[str, ...]
    features_VD: Tensor
    weight: float = 1.0
    is_hard: bool = False
    group: str = ""

    @property
    def known(self) -> Known:
        """What a memory knows of it."""
        return Known(self.classes, self.weight, self.is_hard, self.group)


def remembered(
    model: ClosedFormModel,
    paths: Sequence[Path],
    classes: Sequence[tuple[str, ...]],
    features_NVD: Tensor,
    kin: Sequence[str] | None = None,
) -> "ClassMemory | None":
    """The memory of the images that a model has just been fitted to; None where its task keeps none.

    Those that share a name in ``kin`` belong together.
    """
    if model.config.memory_per_class is None:
        return None
    images = zip(paths, classes, features_NVD, kin or [""] * len(paths), strict=True)
    lessons = [Lesson(content_digest(path), names, rows_VD, group=group) for path, names, rows_VD, group in images]
    return ClassMemory.of(model, lessons, per_class=model.config.memory_per_class)


@dataclass(frozen=True, eq=False)
class ClassMemory:
    """Every change is a new memory; the model is changed by ``teach`` alone.

    ``fingerprint`` is the backbone's and the resize's; ``groups`` are the sizes of the parts of a feature vector;
    ``rows_per_image`` is how many rows an image of weight 1 counts as, however many views it is shown in. ``raw`` are
    the features of all images as they came, empty once they are folded.
    """

    fingerprint: str
    groups: tuple[int, ...]
    statistics: Statistics
    ridge: RidgeMemory
    classes: tuple[str, ...]
    rows_per_image: int
    per_class: int
    known: Mapping[str, Known] = field(default_factory=dict)
    replay: Mapping[str, Tensor] = field(default_factory=dict)
    raw: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, model: ClosedFormModel, lessons: Sequence[Lesson], *, per_class: int) -> Self:
        """Of the images that a model has just been fitted to; the same picture twice counts twice."""
        views, features = lessons[0].features_VD.shape
        nothing = torch.zeros(features, dtype=torch.float64)
        ridge = RidgeMemory.empty(features=features, outputs=len(model.classes))
        groups, blank = tuple(model.head.groups), Statistics(nothing, nothing + 1)
        begun = cls(model.fingerprint, groups, blank, ridge, tuple(model.classes), views, per_class)
        seen: Counter[str] = Counter()
        named = []
        for one in lessons:
            seen[one.digest] += 1
            count = seen[one.digest]
            named.append(one if count == 1 else replace(one, digest=f"{one.digest}#{count}"))
        return begun.learn(model, named)

    @property
    def is_folded(self) -> bool:
        """Whether the statistics stay as they are from now on."""
        return bool(self.known) and not self.raw

    @property
    def counts(self) -> dict[str, int]:
        """Images learnt of each class."""
        found = Counter(name for one in self.known.values() for name in one.classes)
        return {name: found[name] for name in self.classes}

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors, as saved."""
        return sum(t.nbytes for t in self.state()[0].values())

    def learn(self, model: ClosedFormModel, lessons: Sequence[Lesson]) -> Self:
        """With more images; classes not known so far come after those that are, sorted.

        Raises DataError for an image that has been learnt already.
        """
        twice = [one.digest for one in lessons if one.digest in self.known]
        if twice or len({one.digest for one in lessons}) < len(lessons):
            raise DataError(f"{len(twice) or 'some'} of the images have been learnt already; an image counts once")
        new = sorted({name for one in lessons for name in one.classes} - set(self.classes))
        known = {**self.known, **{one.digest: one.known for one in lessons}}
        grown = replace(self, classes=(*self.classes, *new), known=known)
        fresh = {one.digest: one.features_VD for one in lessons}
        if not self.is_folded:
            return grown.standardised_anew(model, {**self.raw, **fresh})
        rows = {digest: self._rows(features_VD) for digest, features_VD in fresh.items()}
        return grown._holding(self.ridge.with_outputs(len(grown.classes)), rows, self.replay)

    def standardised_anew(self, model: ClosedFormModel, raw: Mapping[str, Tensor]) -> Self:
        """Of all images as they came; folded where that takes less room.

        Hard cases are held to the statistics of the others: they are exceptions, and of weight 0 they change nothing.
        """
        usual = [digest for digest in raw if not self.known[digest].is_hard] or list(raw)
        weights = torch.cat([self._row_weights(1.0, len(raw[digest])) for digest in usual])
        statistics = model.head.statistics(torch.cat([raw[digest] for digest in usual]), weights)
        is_small = sum(len(rows_VD) for rows_VD in raw.values()) <= _ROOM * len(statistics.mean_D)
        return replace(self, raw=raw if is_small else {})._by(statistics, raw)

    def _by(self, statistics: Statistics, raw: Mapping[str, Tensor]) -> Self:
        """The sums over all images as they came, by these statistics."""
        by = replace(self, statistics=statistics)
        empty = RidgeMemory.empty(features=len(statistics.mean_D), outputs=len(self.classes))
        return by._holding(empty, {digest: by._rows(features_VD) for digest, features_VD in raw.items()}, {})

    def _holding(self, ridge: RidgeMemory, rows: Mapping[str, Tensor], replay: Mapping[str, Tensor]) -> Self:
        """With rows of images that are known already; ``ridge`` and ``replay`` are of the others."""
        if rows:
            images = [self.known[digest] for digest in rows]
            counts = [len(rows_VD) for rows_VD in rows.values()]
            weights = [self._row_weights(one.weight, count) for one, count in zip(images, counts, strict=True)]
            targets = [self.target(one.classes).expand(count, -1) for one, count in zip(images, counts, strict=True)]
            ridge = ridge.add(torch.cat(list(rows.values())), torch.cat(targets), torch.cat(weights))
        shown = {**replay, **{digest: rows_VD.float() for digest, rows_VD in rows.items()}}
        stays = kept(self.known, shown, per_class=self.per_class)
        return replace(self, ridge=ridge, replay={name: shown[name] for name in stays})

    def folded(self, statistics: Statistics | None = None) -> Self:
        """With statistics that stay, those of now or others; nothing changes for one that is folded already."""
        if self.is_folded:
            return self
        by = self if statistics is None else self._by(statistics, self.raw)
        return replace(by, raw={})

    def roomy(self, per_class: int) -> Self:
        """Folded, with room for so many images of each class; of those that were dropped none comes back."""
        wide = replace(self, per_class=max(self.per_class, per_class))
        return wide.folded(self.statistics)

    def relabel(self, lesson: Lesson) -> Self:
        """As if an image learnt before had had the classes of ``lesson``; new ones come after those that are known.

        Its digest finds it, and its copies with it; their weights stay as they were.
        """
        new = sorted(set(lesson.classes) - set(self.classes))
        if new:
            classes = (*self.classes, *new)
            wide = replace(self, classes=classes, ridge=self.ridge.with_outputs(len(classes)))
            return wide.relabel(lesson)
        rows, ridge, target = self._rows(lesson.features_VD), self.ridge, self.target(lesson.classes)
        copies = {name: self.known[name] for name in self._copies(lesson.digest)}
        for was in copies.values():
            change = target - self.target(was.classes)
            ridge = ridge.retarget(rows, change.expand(len(rows), -1), self._row_weights(was.weight, len(rows)))
        corrected = {name: replace(was, classes=lesson.classes) for name, was in copies.items()}
        return replace(self, ridge=ridge, known={**self.known, **corrected})

    def _copies(self, digest: str) -> Iterable[str]:
        """What a picture is known by, once for each time that it was learnt (see ``of``)."""
        names = chain([digest], (f"{digest}#{number}" for number in count(2)))
        return takewhile(self.known.__contains__, names)

    def rename(self, names: Mapping[str, str]) -> Self:
        """With other names for some classes; raises DataError for an unknown one, or a name that is taken."""
        strange = sorted(set(names) - set(self.classes))
        if strange:
            raise DataError(f"no class is called {', '.join(strange)}; there are: {', '.join(self.classes)}")
        classes = tuple(names.get(name, name) for name in self.classes)
        if len(set(classes)) < len(classes):
            taken = sorted({name for name, count in Counter(classes).items() if count > 1})
            raise DataError(f"two classes would be called {', '.join(taken)}; classes cannot be joined by renaming")
        known = {
            digest: replace(one, classes=tuple(names.get(name, name) for name in one.classes))
            for digest, one in self.known.items()
        }
        return replace(self, classes=classes, known=known)

    def aligned(self, classes: Sequence[str]) -> RidgeMemory:
        """The sums with outputs in the order of ``classes``, which hold all of these."""
        lacking = [name for name in classes if name not in self.classes]
        have = [*self.classes, *lacking]
        return self.ridge.with_outputs(len(have)).select_outputs([have.index(name) for name in classes])

    def group_of(self, digest: str) -> str:
        """The name that images share which belong together: a group, or else copies of one picture."""
        return self.known[digest].group or digest.partition("#")[0]

    def left_out(self, solution: RidgeSolution, digests: Iterable[str]) -> list[Tensor]:
        """What the views of kept images get from the map fitted without them and their groups: float64[V,C] each.

        Of a group as much is left out as there are rows of: all of it until memories are folded, then what is kept.
        """
        wanted = list(digests)
        members: dict[str, list[str]] = {self.group_of(digest): [] for digest in wanted}
        for digest in self.raw or self.replay:
            members.get(self.group_of(digest), []).append(digest)
        groups = list(members.values())
        found: dict[str, Tensor] = {}
        for start in range(0, len(groups), _AT_ONCE):
            found |= self._left_out_together(solution, groups[start : start + _AT_ONCE])
        return [found[digest] for digest in wanted]

    def _left_out_together(self, solution: RidgeSolution, groups: Sequence[Sequence[str]]) -> dict[str, Tensor]:
        rows = {digest: self._kept_rows(digest) for group in groups for digest in group}
        applied = torch.split(solution.applied(torch.cat(list(rows.values()))), [len(one) for one in rows.values()])
        applied_of = dict(zip(rows, applied, strict=True))
        found: dict[str, Tensor] = {}
        for group in groups:
            sizes, images = [len(rows[digest]) for digest in group], [self.known[digest] for digest in group]
            weights = [self._row_weights(one.weight, size) for one, size in zip(images, sizes, strict=True)]
            targets = [self.target(one.classes).expand(size, -1) for one, size in zip(images, sizes, strict=True)]
            left = solution.left_out(
                torch.cat([rows[digest] for digest in group]),
                torch.cat(targets),
                weight=torch.cat(weights),
                applied_VD=torch.cat([applied_of[digest] for digest in group]),
            )
            found |= dict(zip(group, torch.split(left, sizes), strict=True))
        return found

    def _kept_rows(self, digest: str) -> Tensor:
        return self.replay[digest] if digest in self.replay else self._rows(self.raw[digest]).float()

    def teach(self, model: ClosedFormModel) -> None:
        """Fit the model's head to everything learnt, with its temperature (or sigmoids) and threshold of "unknown".

        These come from kept images that are no hard cases, each left out exactly, with its group as far as that is
        kept. Raises DataError for another backbone, SettingsError where too few images are kept for the threshold.
        """
        self.require_fits(model)
        solution = model.head.solved(self.ridge)
        model.rebuild_head(self.classes)
        model.head.take(self.statistics, solution.weight_DC, solution.bias_C)
        usual = [digest for digest in self.known if digest in self.replay and not self.known[digest].is_hard]
        left = self.left_out(solution, usual)
        if isinstance(model, ClassifyModel):
            labels_N = torch.tensor([self.classes.index(self.known[digest].classes[0]) for digest in usual])
            kin = [self.group_of(digest) for digest in usual]
            model.head.calibrate(torch.stack([one.mean(0) for one in left]), labels_N, kin)
            decided = torch.cat([model.at_decision(one[None]) for one in left])
            most = self.per_class * len(self.classes)
            model.certify(decided / model.head.temperature.double(), labels_N, kin, most=most)
            if model.calibration is not None and self._is_torn(set(kin)):
                model.install(replace(model.calibration, caveat=_TORN))
            return
        present_NC = torch.stack([self._target(self.known[digest].classes, self.classes) for digest in usual]).bool()
        model.head.calibrate(torch.cat([model.at_decision(one[None]) for one in left]), present_NC)

    def _is_torn(self, groups: Set[str]) -> bool:
        """Whether some images of these groups have left no rows that could be left out."""
        held = self.raw or self.replay
        return any(digest not in held and self.group_of(digest) in groups for digest in self.known)

    def target(self, names: Sequence[str]) -> Tensor:
        """1 where a class is among the names, else 0: float64[C]."""
        return self._target(names, self.classes)

    def require_fits(self, model: ClosedFormModel) -> None:
        """Raises DataError where the memory is of another backbone or resize."""
        if self.fingerprint != model.fingerprint:
            raise DataError("the memory is of another backbone or resize than the model; finetune again to make one")

    def _rows(self, features_VD: Tensor) -> Tensor:
        return unit((features_VD.double() - self.statistics.mean_D) / self.statistics.scale_D, self.groups)

    def _row_weights(self, weight: float, rows: int) -> Tensor:
        return torch.full((rows,), weight * self.rows_per_image / rows, dtype=torch.float64)

    @staticmethod
    def _target(names: Sequence[str], classes: Sequence[str]) -> Tensor:
        return torch.tensor([[float(name in names) for name in classes]], dtype=torch.float64)[0]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain values to save: features as they came, or sums and kept rows once they are folded."""
        held = self.raw or self.replay
        tensors = {"mean": self.statistics.mean_D, "scale": self.statistics.scale_D}
        tensors |= {} if self.raw else self.ridge.state()
        name = "raw" if self.raw else "replay"
        if held:
            tensors[name] = torch.cat(list(held.values()))
        plain = {
            "fingerprint": self.fingerprint,
            "classes": list(self.classes),
            "rows_per_image": self.rows_per_image,
            "per_class": self.per_class,
            "known": {
                name: [list(one.classes), one.weight, one.is_hard, one.group] for name, one in self.known.items()
            },
            name: {digest: len(rows_VD) for digest, rows_VD in held.items()},
        }
        return tensors, plain

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], plain: Mapping[str, Any], *, groups: Sequence[int]) -> Self:
        """The memory ``state`` was taken of; raises ValueError, KeyError or TypeError for what is none.

        ``groups`` are the head's. Memories of versions that standardised once and for all are folded ones.
        """
        classes = tuple(str(name) for name in plain["classes"])
        known = {
            str(name): Known(tuple(map(str, one[0])), float(one[1]), bool(one[2]), str(one[3]))
            for name, one in plain["known"].items()
        }
        name = "raw" if "raw" in plain else "replay"
        sizes = {str(digest): int(rows) for digest, rows in plain[name].items()}
        parts = torch.split(tensors[name], list(sizes.values())) if sizes else ()
        held = dict(zip(sizes, parts, strict=True))
        strange = {c for one in known.values() for c in one.classes} - set(classes)
        if strange or not set(held) <= set(known) or (name == "raw" and set(held) != set(known)):
            raise ValueError("the memory names images or classes that it does not know")
        statistics = Statistics(tensors["mean"].double(), tensors["scale"].double())
        width = len(statistics.mean_D)
        ridge = (
            RidgeMemory.empty(features=width, outputs=len(classes)) if name == "raw" else RidgeMemory.restore(tensors)
        )
        rows_per_image, per_class = int(plain["rows_per_image"]), int(plain["per_class"])
        fingerprint = str(plain["fingerprint"])
        found = cls(fingerprint, tuple(groups), statistics, ridge, classes, rows_per_image, per_class, known)
        widths = {width, len(ridge.cross_EC) - 1, sum(groups), *(part.shape[1] for part in parts)}
        if ridge.outputs != len(classes) or len(widths) > 1:
            raise ValueError("sums, statistics and classes of the memory do not go together")
        return replace(found, raw=held)._by(statistics, held) if name == "raw" else replace(found, replay=held)
