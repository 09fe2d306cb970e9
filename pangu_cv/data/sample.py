"""One image and what is known about it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a dataset; every reader yields these and nothing else.

    ``label`` is the class name (``good`` for the normal images of an anomaly set), ``mask`` a single-channel image of
    the same size whose non-zero pixels are defective, ``group`` names what must stay on one side of a split (a part, a
    batch, a video). ``split`` is None where the layout has none; a table's ``pool`` is read as ``train``.
    """

    path: Path
    label: str | None = None
    split: Split | None = None
    mask: Path | None = None
    caption: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """Samples in a stable order, with the layout they were read from (``class_folders``, ``mvtec`` or ``csv``)."""

    root: Path
    layout: str
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    @property
    def classes(self) -> tuple[str, ...]:
        """Sorted names of all labels that occur."""
        return tuple(sorted({s.label for s in self.samples if s.label is not None}))

    def split(self, name: Split | None) -> tuple[Sample, ...]:
        """The samples of one split, in order."""
        return tuple(s for s in self.samples if s.split == name)
