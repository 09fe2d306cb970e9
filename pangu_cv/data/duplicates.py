"""Images that occur more than once, and what that does to a dataset."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pangu_cv.data.class_names import NO_OBJECT
from pangu_cv.data.inspection import ImageFacts
from pangu_cv.data.near_duplicates import near_duplicates
from pangu_cv.data.object_copies import object_copies
from pangu_cv.data.sample import Sample, Split
from pangu_runtime.decode import DecodeSpec


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Images with the same ``bytes``, in different files the same ``pixels``, that only ``look`` the same, or that show
    the same ``object`` elsewhere.

    They stand in the dataset's order.

    ``paths``, ``splits`` and ``labels`` run in parallel; paths start from the dataset's root. Where images have
    boxes or masks instead of labels, the classes of the boxes or the numbers in the mask stand for them.
    """

    kind: Literal["bytes", "pixels", "look", "object"]
    paths: tuple[str, ...]
    splits: tuple[Split | None, ...]
    labels: tuple[str | None, ...]

    @property
    def leaks(self) -> bool:
        """Whether it stands in more than one split, so that a test would meet what was trained on."""
        return len(set(self.splits)) > 1

    @property
    def contradicts(self) -> bool:
        """Whether it has more than one label."""
        return len(set(self.labels)) > 1


def find_duplicates(samples: Sequence[Sample], facts: Sequence[ImageFacts], *, root: Path) -> tuple[Duplicates, ...]:
    """One entry per picture that occurs more than once; unreadable files are compared by their bytes."""
    found = (group for group in _same_pictures(facts) if len(group) > 1)
    return tuple(
        _told("bytes" if len({facts[at].sha256 for at in group}) == 1 else "pixels", group, samples, root, facts)
        for group in found
    )


def find_look_alikes(samples: Sequence[Sample], facts: Sequence[ImageFacts], *, root: Path) -> tuple[Duplicates, ...]:
    """Groups of different pictures that look the same from afar; of equal ones the first stands for all.

    Pictures without a thumbnail are not compared.
    """
    firsts = {next((at for at in group if facts[at].thumbnail is not None), None) for group in _same_pictures(facts)}
    thumbnails = [fact.thumbnail if at in firsts else None for at, fact in enumerate(facts)]
    return tuple(_told("look", group, samples, root) for group in near_duplicates(thumbnails))


def find_object_copies(
    samples: Sequence[Sample], *, spec: DecodeSpec, root: Path, progress: Callable[[int, int], None] | None = None
) -> tuple[Duplicates, ...]:
    """Groups of pictures that show the same object, on whatever background; slow, see ``object_copies``."""
    found = object_copies(samples, spec=spec, progress=progress)
    return tuple(_told("object", group, samples, root) for group in found)


def _same_pictures(facts: Sequence[ImageFacts]) -> list[list[int]]:
    same: dict[str, list[int]] = defaultdict(list)
    for at, fact in enumerate(facts):
        if key := fact.pixels or fact.sha256:
            same[key].append(at)
    return list(same.values())


def _told(
    kind: Literal["bytes", "pixels", "look", "object"],
    group: Sequence[int],
    samples: Sequence[Sample],
    root: Path,
    facts: Sequence[ImageFacts] | None = None,
) -> Duplicates:
    return Duplicates(
        kind,
        tuple(relative(samples[at].path, root) for at in group),
        tuple(samples[at].split for at in group),
        tuple(_label(samples[at], facts[at].mask_values if facts else frozenset()) for at in group),
    )


def _label(sample: Sample, mask_values: frozenset[int]) -> str | None:
    """What it is said to show; None where nothing is known."""
    if sample.label is not None:
        return sample.label
    if sample.boxes is not None:
        return ", ".join(sorted({box.label for box in sample.boxes})) or NO_OBJECT
    return f"mask of {', '.join(map(str, sorted(mask_values)))}" if mask_values else None


def relative(path: Path, root: Path) -> str:
    """The path from ``root`` with forward slashes, as it is if it lies elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
