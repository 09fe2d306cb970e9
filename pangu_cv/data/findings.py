"""What a check of a dataset reports."""

from dataclasses import asdict, dataclass
from typing import Any

from pangu_cv.data.duplicates import Duplicates

UNLABELLED = "unlabelled"
"""How images of which nothing is known are counted among the classes."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Smallest, median and largest width and height in pixels; how many sizes there are, and the commonest of them."""

    width_px: tuple[int, int, int]
    height_px: tuple[int, int, int]
    distinct: int
    commonest: dict[str, int]


@dataclass(frozen=True, slots=True)
class Faulty:
    """A file that cannot be used.

    ``reason`` is ImageError's; for a mask also ``size`` (other than its image's), ``values`` or ``empty``; for boxes
    ``size`` (drawn on a picture of another).
    """

    path: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Range16Bit:
    """The 16-bit values met, the range that decoding used, and one that would fit the camera's bits."""

    found: tuple[int, int]
    used: tuple[int, int]
    suggested: tuple[int, int]


@dataclass(frozen=True, slots=True)
class DataCheck:
    """What is in a dataset. Paths start from ``root``.

    ``counts`` is images by split (``all`` where none) and class; of boxes it counts objects, of masks with classes the
    images that show each.
    """

    root: str
    layout: str
    images: int
    counts: dict[str, dict[str, int]]
    sizes: Sizes | None
    kinds: dict[str, int]
    duplicates: tuple[Duplicates, ...]
    look_alikes: tuple[Duplicates, ...]
    object_copies: tuple[Duplicates, ...]
    unreadable: tuple[Faulty, ...]
    mask_faults: tuple[Faulty, ...]
    box_faults: tuple[Faulty, ...]
    range_16bit: Range16Bit | None
    notes: tuple[str, ...]
    advice: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing stops training or falsifies a test; notes and advice may remain."""
        wrong = any(d.leaks or d.contradicts for d in self.duplicates)
        masks = any(m.reason != "empty" for m in self.mask_faults)
        return not (self.unreadable or self.box_faults or wrong or masks)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file, with ``ok``."""
        return {"ok": self.ok, **asdict(self)}
