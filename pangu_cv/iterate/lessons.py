"""Labelled images that a model is to learn on from: what is new of them, and what does not fit what it knows.

Shapes: N images, V views, D features.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pangu_cv.data.config import DataConfig
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.data.shown import classes_shown
from pangu_cv.errors import DataError, ImageError
from pangu_cv.features import Extraction, FeatureStore, Skipped, cache_folder, content_digest, digest, extract
from pangu_cv.progress import bar
from pangu_cv.tasks.class_memory import ClassMemory, ClosedFormModel, Lesson
from pangu_runtime.decode import DecodeSpec

Labels = dict[Path, tuple[str, ...]]
_LISTED = 5


@dataclass(frozen=True)
class Labelled:
    """Images with their classes, by path; the digests of their files; those that cannot be read; groups there are."""

    labels: Labels
    digests: dict[Path, str]
    skipped: tuple[Skipped, ...]
    groups: Mapping[Path, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Digest of all of it, wherever the files lie."""
        return digest(sorted((self.digests[path], names) for path, names in self.labels.items()))

    @property
    def counts(self) -> dict[str, int]:
        """Images of each class."""
        return dict(sorted(Counter(name for names in self.labels.values() for name in names).items()))


def to_learn(dataset: Dataset) -> tuple[Sample, ...]:
    """The training part; where the layout has no parts, all of it. Test and val parts are never learnt."""
    train = tuple(s for s in dataset if s.split in ("train", None))
    if not train:
        raise DataError(f"{dataset.root}: holds test images alone, which are never learnt; name images to learn from")
    return train


def labelled(data: DataConfig, samples: Iterable[Sample], dataset: Dataset, *, task: str) -> Labelled:
    """Those of the samples whose classes are known; raises DataError where there are none."""
    wanted = set(samples)
    if task == "multilabel":
        named = {s: tuple(sorted(names)) for s, names in classes_shown(dataset).items() if s in wanted}
    else:
        named = {s: (s.label,) for s in dataset if s in wanted and s.label is not None}
    labels: Labels = {}
    digests, skipped = {}, []
    for sample, names in named.items():
        try:
            digests[sample.path] = content_digest(sample.path)
            labels[sample.path] = names
        except ImageError as error:
            skipped.append(Skipped(sample.path, error.reason, str(error)))
    if not labels:
        gone = f"; {len(skipped)} cannot be read, such as {skipped[0].path}" if skipped else ""
        raise DataError(f"{data.path}: no image with a label{gone}")
    groups = {sample.path: sample.group for sample in named if sample.group}
    return Labelled(labels, digests, tuple(skipped), groups)


def features_of(
    model: ClosedFormModel, paths: Sequence[Path], views: Sequence[str], spec: DecodeSpec, *, cache: bool, what: str
) -> Extraction:
    """By the model's own backbone; with the cache, what any earlier run has embedded is not embedded again."""
    store = FeatureStore(cache_folder() if cache else None, model.fingerprint)
    with bar(f"features of {what}") as progress:
        return extract(paths, model, views=views, store=store, decode_spec=spec, progress=progress)


@dataclass(frozen=True, eq=False)
class Fresh:
    """What there is to learn: new images, images with another label than before, and remarks."""

    new: tuple[Lesson, ...]
    corrected: tuple[Lesson, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    paths: Mapping[str, Path]

    @property
    def counts(self) -> dict[str, int]:
        """New images of each class."""
        return dict(sorted(Counter(name for one in self.new for name in one.classes).items()))


def fresh_lessons(
    model: ClosedFormModel,
    memory: ClassMemory,
    images: Labelled,
    spec: DecodeSpec,
    *,
    cache: bool,
    relabel: bool,
    what: str,
) -> Fresh:
    """Embed what is new; raises DataError where labels contradict each other, or what was learnt before."""
    first, notes = _once(images)
    known = {key: path for key, path in first.items() if key in memory.known}
    same = {key for key, path in known.items() if images.labels[path] == memory.known[key].classes}
    other = {key: path for key, path in known.items() if key not in same}
    if other and not relabel:
        raise DataError(_contradicts(memory, images, other))
    if same:
        notes.append(f"{len(same)} of {what} have been learnt already and are passed over")
    notes += _look_alike_names(images.counts, memory.classes)
    wanted = {key: path for key, path in first.items() if key not in same}
    seen = features_of(model, list(wanted.values()), model.config.fit_views, spec, cache=cache, what=what)
    lessons = [
        Lesson(
            key,
            images.labels[path],
            torch.from_numpy(seen.features_NVD[seen.index[path]]),
            group=images.groups.get(path, ""),
        )
        for key, path in wanted.items()
        if path in seen.index
    ]
    new = tuple(one for one in lessons if one.digest not in known)
    corrected = tuple(one for one in lessons if one.digest in known)
    return Fresh(new, corrected, (*images.skipped, *seen.skipped), tuple(notes), wanted)


def _once(images: Labelled) -> tuple[dict[str, Path], list[str]]:
    """One path for each picture; raises DataError where copies of one have different labels."""
    first: dict[str, Path] = {}
    copies = 0
    for path, key in images.digests.items():
        if key not in first:
            first[key] = path
            continue
        copies += 1
        if images.labels[path] != images.labels[first[key]]:
            a, b = ("+".join(images.labels[one]) or "nothing" for one in (first[key], path))
            raise DataError(f"{path} is the same picture as {first[key]}, but one is '{b}', the other '{a}'; mend one")
    return first, [f"{copies} copies of other images are passed over: a picture counts once"] if copies else []


def _contradicts(memory: ClassMemory, images: Labelled, other: Mapping[str, Path]) -> str:
    moves = Counter(("+".join(memory.known[key].classes), "+".join(images.labels[path])) for key, path in other.items())
    told = "; ".join(f"{count} learnt as '{was}' and now called '{now}'" for (was, now), count in moves.most_common(3))
    example = next(iter(other.values()))
    advice = "to correct their labels in the model, add --relabel"
    renames = [(was, now) for was, now in moves if now not in memory.classes]
    if len(renames) == len(moves):
        flags = " ".join(f"--rename {was}={now}" for was, now in renames)
        advice = f"if the class was renamed, add {flags}; {advice}"
    return f"{len(other)} images have other labels than before: {told}, such as {example}; {advice}"


def _look_alike_names(names: Iterable[str], known: Sequence[str]) -> list[str]:
    """New class names that may be slips of the pen."""
    notes = []
    for name in sorted(set(names) - set(known)):
        lowered = {other.lower(): other for other in known}
        close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.87)
        if close:
            notes.append(f"'{name}' is learnt as a new class beside '{lowered[close[0]]}'; is it the same, misspelt?")
    return notes


def require_apart(frozen: Labelled, learnt: Mapping[str, object], *, what: str) -> None:
    """Raises DataError where images of the frozen set are, or were, learnt from: it would measure memory."""
    both = [path for path, key in frozen.digests.items() if key in learnt]
    if both:
        named = ", ".join(str(path) for path in both[:_LISTED])
        raise DataError(
            f"{len(both)} images of the frozen set are among {what} ({named}{', …' * (len(both) > _LISTED)}); "
            "a gate must hold images that are never learnt"
        )
