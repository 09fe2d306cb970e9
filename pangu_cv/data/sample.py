"""One image and what is known about it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Box:
    """One object: its class, and its left, top, right and bottom edge in pixels of the upright image."""

    label: str
    xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a dataset; every reader yields these and nothing else.

    ``label`` is the class name (``good`` for the normal images of an anomaly set), ``mask`` a single-channel image of
    the same size whose pixels are class numbers (any non-zero is a defect where the dataset names none), ``boxes`` the
    objects: none at all is ``()``, not annotated is None. ``group`` names what must stay on one side of a split (a
    part, a batch, a video). ``split`` is None where the layout has none; a table's ``pool`` is read as ``train``.
    """

    path: Path
    label: str | None = None
    split: Split | None = None
    mask: Path | None = None
    caption: str | None = None
    group: str | None = None
    boxes: tuple[Box, ...] | None = None

    @property
    def is_annotated(self) -> bool:
        """Whether anything is known of what it shows."""
        return self.label is not None or self.mask is not None or self.boxes is not None


@dataclass(frozen=True, slots=True)
class Dataset:
    """Samples in a stable order, with the layout they were read from; ``mask_classes`` names the values of masks.

    ``box_faults`` are the images whose boxes could not be believed, each with the reason; their samples have none.
    """

    root: Path
    layout: str
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = field(default=())
    mask_classes: tuple[str, ...] = field(default=())
    box_faults: tuple[tuple[Path, str], ...] = field(default=())

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    @property
    def classes(self) -> tuple[str, ...]:
        """Sorted names of all labels that occur, on images or boxes."""
        boxed = {box.label for s in self.samples for box in s.boxes or ()}
        return tuple(sorted(boxed | {s.label for s in self.samples if s.label is not None}))

    def split(self, name: Split | None) -> tuple[Sample, ...]:
        """The samples of one split, in order."""
        return tuple(s for s in self.samples if s.split == name)
