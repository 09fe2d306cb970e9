"""What a head fitted in closed form has learnt from, so that it can learn on without the old images.

It holds sums over feature rows (``models/ridge_memory.py``), a few images of each class as feature rows
(``models/replay.py``), and of every image the digest of its file, its classes and its weight; neither pixels nor paths.

The statistics that features are standardised by are those of the first fit, for good: unit length comes after them, so
rows standardised otherwise could not be added. Learning in steps equals fitting to all images at once with these
statistics, to rounding.

Shapes: N images, V views, D features, C classes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from pangu_cv.errors import DataError
from pangu_cv.features import content_digest
from pangu_cv.models.replay import Known, kept
from pangu_cv.models.ridge_map import Statistics
from pangu_cv.models.ridge_memory import RidgeMemory, RidgeSolution
from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.multilabel import MultilabelModel

ClosedFormModel = ClassifyModel | MultilabelModel


@dataclass(frozen=True, eq=False)
class Lesson:
    """A labelled image: the digest of its file, its classes, its features in V views."""

    digest: str
    classes: tuple[str, ...]
    features_VD: Tensor
    weight: float = 1.0
    is_hard: bool = False


def remembered(
    model: ClosedFormModel, paths: Sequence[Path], classes: Sequence[tuple[str, ...]], features_NVD: Tensor
) -> "ClassMemory | None":
    """The memory of the images that a model has just been fitted to; None where its task keeps none."""
    if model.config.memory_per_class is None:
        return None
    images = zip(paths, classes, features_NVD, strict=True)
    lessons = [Lesson(content_digest(path), names, features_VD) for path, names, features_VD in images]
    return ClassMemory.of(model, lessons, per_class=model.config.memory_per_class)


@dataclass(frozen=True, eq=False)
class ClassMemory:
    """Every change is a new memory; the model is changed by ``teach`` alone.

    ``fingerprint`` is the backbone's and the resize's; ``rows_per_image`` is how many rows an image of weight 1 counts
    as, however many views it is shown in.
    """

    fingerprint: str
    statistics: Statistics
    ridge: RidgeMemory
    classes: tuple[str, ...]
    rows_per_image: int
    per_class: int
    known: Mapping[str, Known] = field(default_factory=dict)
    replay: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, model: ClosedFormModel, lessons: Sequence[Lesson], *, per_class: int) -> Self:
        """Of the images that a model has just been fitted to; the same picture twice counts twice."""
        features_NVD = torch.stack([one.features_VD for one in lessons])
        statistics = model.head.statistics(features_NVD)
        ridge = RidgeMemory.empty(features=features_NVD.shape[2], outputs=len(model.classes))
        begun = cls(model.fingerprint, statistics, ridge, model.classes, features_NVD.shape[1], per_class)
        seen: Counter[str] = Counter()
        named = []
        for one in lessons:
            seen[one.digest] += 1
            count = seen[one.digest]
            named.append(one if count == 1 else replace(one, digest=f"{one.digest}#{count}"))
        return begun.learn(model, named)

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
        classes = (*self.classes, *new)
        rows = [self._rows(model, one.features_VD) for one in lessons]
        pairs = list(zip(lessons, rows, strict=True))
        weights = [self._row_weights(one.weight, len(rows_VD)) for one, rows_VD in pairs]
        targets = [self._target(one.classes, classes).expand(len(rows_VD), -1) for one, rows_VD in pairs]
        ridge = self.ridge.with_outputs(len(classes))
        if rows:
            ridge = ridge.add(torch.cat(rows), torch.cat(targets), torch.cat(weights))
        known = {**self.known, **{one.digest: Known(one.classes, one.weight, one.is_hard) for one in lessons}}
        shown = {**self.replay, **{one.digest: rows_VD.float() for one, rows_VD in pairs}}
        stays = kept(known, shown, per_class=self.per_class)
        return replace(self, ridge=ridge, classes=classes, known=known, replay={name: shown[name] for name in stays})

    def relabel(self, model: ClosedFormModel, lesson: Lesson) -> Self:
        """As if an image learnt before had had the classes of ``lesson``; they must be known.

        Its digest finds it; its weight stays as it was.
        """
        was = self.known[lesson.digest]
        rows = self._rows(model, lesson.features_VD)
        change = self._target(lesson.classes, self.classes) - self._target(was.classes, self.classes)
        ridge = self.ridge.retarget(rows, change.expand(len(rows), -1), self._row_weights(was.weight, len(rows)))
        return replace(self, ridge=ridge, known={**self.known, lesson.digest: replace(was, classes=lesson.classes)})

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

    def merge(self, other: "ClassMemory", *, base: "ClassMemory | None" = None) -> Self:
        """Of what either has learnt, over the classes of both; what stands in ``base``, from which both grew, once.

        Raises DataError where the two do not share backbone, resize and statistics: then their rows mean different
        things. They do where both were updated from one model. Without ``base`` no image may be in both.
        """
        for one in (other, *([base] if base else [])):
            same = one.fingerprint == self.fingerprint and one.rows_per_image == self.rows_per_image
            if not same or not all(torch.equal(a, b) for a, b in zip(self.statistics, one.statistics, strict=True)):
                raise DataError(
                    "these memories do not share backbone, resize and feature statistics, so their sums cannot be "
                    "joined; update both plants' models from one and the same model"
                )
        both = set(self.known) & set(other.known) - set(base.known if base else ())
        if both:
            raise DataError(f"{len(both)} images are in both memories and would count twice; name the common base")
        classes = (*self.classes, *sorted(set(other.classes) - set(self.classes)))
        ridge = self.aligned(classes).merge(other.aligned(classes), base=base.aligned(classes) if base else None)
        known, shown = {**other.known, **self.known}, {**other.replay, **self.replay}
        stays = kept(known, shown, per_class=self.per_class)
        return replace(self, ridge=ridge, classes=classes, known=known, replay={name: shown[name] for name in stays})

    def aligned(self, classes: Sequence[str]) -> RidgeMemory:
        """The sums with outputs in the order of ``classes``, which hold all of these."""
        lacking = [name for name in classes if name not in self.classes]
        have = [*self.classes, *lacking]
        return self.ridge.with_outputs(len(have)).select_outputs([have.index(name) for name in classes])

    def left_out(self, solution: RidgeSolution, digests: Iterable[str]) -> list[Tensor]:
        """What the views of kept images get from the map fitted without them: float64[V,C] each."""
        found = []
        for digest in digests:
            one, rows_VD = self.known[digest], self.replay[digest]
            weight = float(self._row_weights(one.weight, len(rows_VD))[0])
            found.append(solution.left_out(rows_VD, self._target(one.classes, self.classes), weight=weight))
        return found

    def teach(self, model: ClosedFormModel) -> None:
        """Fit the model's head to everything learnt, with its temperature (or sigmoids) and threshold of "unknown".

        These come from kept images that are no hard cases, each left out exactly. Raises DataError for another
        backbone, SettingsError where too few images are kept for the threshold asked for.
        """
        self.require_fits(model)
        solution = self.ridge.solve(model.head.config.penalty)
        model.rebuild_head(self.classes)
        model.head.take(self.statistics, solution.weight_DC, solution.bias_C)
        usual = [digest for digest in self.replay if not self.known[digest].is_hard]
        left = self.left_out(solution, usual)
        if isinstance(model, ClassifyModel):
            labels_N = torch.tensor([self.classes.index(self.known[digest].classes[0]) for digest in usual])
            model.head.calibrate(torch.stack([one.mean(0) for one in left]), labels_N)
            decided = torch.cat([model.at_decision(one[None]) for one in left])
            model.certify(decided / model.head.temperature.double(), labels_N)
            return
        present_NC = torch.stack([self._target(self.known[digest].classes, self.classes) for digest in usual]).bool()
        model.head.calibrate(torch.cat([model.at_decision(one[None]) for one in left]), present_NC)

    def target(self, names: Sequence[str]) -> Tensor:
        """1 where a class is among the names, else 0: float64[C]."""
        return self._target(names, self.classes)

    def require_fits(self, model: ClosedFormModel) -> None:
        """Raises DataError where the memory is of another backbone or resize."""
        if self.fingerprint != model.fingerprint:
            raise DataError("the memory is of another backbone or resize than the model; finetune again to make one")

    def _rows(self, model: ClosedFormModel, features_VD: Tensor) -> Tensor:
        return model.head.normalised(features_VD.double(), self.statistics)

    def _row_weights(self, weight: float, rows: int) -> Tensor:
        return torch.full((rows,), weight * self.rows_per_image / rows, dtype=torch.float64)

    @staticmethod
    def _target(names: Sequence[str], classes: Sequence[str]) -> Tensor:
        return torch.tensor([[float(name in names) for name in classes]], dtype=torch.float64)[0]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain values to save."""
        tensors = {**self.ridge.state(), "mean": self.statistics.mean_D, "scale": self.statistics.scale_D}
        if self.replay:
            tensors["replay"] = torch.cat(list(self.replay.values()))
        plain = {
            "fingerprint": self.fingerprint,
            "classes": list(self.classes),
            "rows_per_image": self.rows_per_image,
            "per_class": self.per_class,
            "known": {name: [list(one.classes), one.weight, one.is_hard] for name, one in self.known.items()},
            "replay": {name: len(rows_VD) for name, rows_VD in self.replay.items()},
        }
        return tensors, plain

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> Self:
        """The memory ``state`` was taken of; raises ValueError, KeyError or TypeError for what is none."""
        classes = tuple(str(name) for name in plain["classes"])
        ridge = RidgeMemory.restore(tensors)
        statistics = Statistics(tensors["mean"].double(), tensors["scale"].double())
        if ridge.outputs != len(classes) or len(statistics.mean_D) != len(ridge.cross_EC) - 1:
            raise ValueError("sums, statistics and classes of the memory do not go together")
        sizes = [int(rows) for rows in plain["replay"].values()]
        parts = torch.split(tensors["replay"], sizes) if sizes else ()
        known = {
            str(name): Known(tuple(str(c) for c in one[0]), float(one[1]), bool(one[2]))
            for name, one in plain["known"].items()
        }
        if not set(plain["replay"]) <= set(known) or not {c for one in known.values() for c in one.classes} <= set(
            classes
        ):
            raise ValueError("the memory names images or classes that it does not know")
        replay = dict(zip(plain["replay"], parts, strict=True))
        rows_per_image, per_class = int(plain["rows_per_image"]), int(plain["per_class"])
        return cls(str(plain["fingerprint"]), statistics, ridge, classes, rows_per_image, per_class, known, replay)
