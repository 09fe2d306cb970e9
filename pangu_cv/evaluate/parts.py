"""Which images of a dataset a model is measured on, and by what those that it has learnt from are known."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.data.shown import classes_shown
from pangu_cv.errors import ImageError
from pangu_cv.evaluate.decider import is_masked
from pangu_cv.features import content_digest, read_ahead
from pangu_cv.tasks.saved import mark_of

_NEEDED = {"detect": "boxes", "segment": "mask", "multilabel": "boxes and no label"}  # a label by the other tasks


def to_measure(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """The test part, else val, else none."""
    found = tuple(samples)
    parts = (tuple(s for s in found if s.split == name) for name in ("test", "val"))
    return next((part for part in parts if part), ())


def test_samples(dataset: Dataset) -> tuple[Sample, ...]:
    """The images to be measured on: the test split, else val, else all that are labelled in some way."""
    return to_measure(dataset) or tuple(s for s in dataset if s.is_annotated)


def measured_samples(dataset: Dataset, task: str) -> tuple[Sample, ...]:
    """As ``test_samples``, of those images alone whose truth the task can use; none where there is no such image."""
    usable = _usable(dataset, task)
    return to_measure(usable) or usable


def _usable(dataset: Dataset, task: str) -> tuple[Sample, ...]:
    match task:
        case "detect":
            return tuple(s for s in dataset if s.boxes is not None)
        case "segment":
            return tuple(s for s in dataset if is_masked(s))
        case "multilabel":
            return tuple(classes_shown(dataset))
        case _:
            return tuple(s for s in dataset if s.label is not None)


def passed_over(dataset: Dataset, measured: Sequence[Sample], task: str) -> list[str]:
    """A sentence for the images of a part that ``measured_samples`` passed over, none where there are none."""
    part = next((s.split for s in to_measure(measured)), None)
    beside = [s for s in dataset if part is None or s.split == part]
    left = len(beside) - len(measured)
    if not left:
        return []
    where = f" of {part}" if part else ""
    return [f"{left} of the {len(beside)} images{where} have no {_NEEDED.get(task, 'label')}, and are not measured"]


def with_kin(measured: Sequence[Sample], dataset: Dataset) -> tuple[Sample, ...]:
    """The images and all others of their groups."""
    groups = {s.group for s in measured} - {None}
    there = set(measured)
    return (*measured, *(s for s in dataset if s.group in groups and s not in there))


def known_to(measured: Sequence[Sample], kin: Iterable[Sample], learnt: Collection[Path]) -> set[Path]:
    """Those measured that were learnt from, or that share a group with an image of ``kin`` that was."""
    groups = {s.group for s in kin if s.path in learnt} - {None}
    return {s.path for s in measured if s.path in learnt or s.group in groups}


def marks_by_path(samples: Sequence[Sample]) -> dict[Path, str]:
    """Of every image the mark of its content, by which a model knows what it has learnt from; none of missing files."""
    paths = [s.path for s in samples]
    digests = zip(paths, read_ahead(paths, content_digest), strict=True)
    return {path: mark_of(digest) for path, digest in digests if not isinstance(digest, ImageError)}
