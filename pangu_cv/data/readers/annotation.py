"""What the layouts with boxes share: fitting boxes to their image, and counting what was found to be wrong."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pangu_cv.data.readers.folders import SPLIT_WORDS, SPLITS
from pangu_cv.data.sample import Box, Split
from pangu_cv.errors import DataError, ImageError
from pangu_runtime.decode import DecodeSpec, peek

_ANY_SIZE = DecodeSpec(max_pixels=2**30)  # no pixel is decoded here; whoever decodes has a limit that users may raise


def read_utf8(file: Path) -> str:
    """Its text; raises DataError for another encoding, which would tear names apart."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: byte {error.start} is no UTF-8; save the file as UTF-8") from None


class Notes:
    """Findings that do not stop the reading, each kind counted, with the first place it was met.

    ``box_faults`` are the images whose boxes are not believed, and why.
    """

    def __init__(self) -> None:
        self._found: dict[str, list[Any]] = {}
        self.box_faults: dict[Path, str] = {}

    def add(self, kind: str, place: str) -> None:
        """One more of ``kind``, a phrase that goes on from a number."""
        self._found.setdefault(kind, [0, place])[0] += 1

    @property
    def lines(self) -> tuple[str, ...]:
        """A line per kind."""
        return tuple(f"{count} {kind}; first {place}" for kind, (count, place) in self._found.items())


def fitted(
    found: Iterable[tuple[str, tuple[float, ...]]], *, width_px: float, height_px: float, place: str, notes: Notes
) -> tuple[Box, ...]:
    """Boxes (label, left, top, right, bottom) in pixels, cut at the image's edges; those of no area are left out."""
    boxes: list[Box] = []
    for label, (x0, y0, x1, y1) in found:
        if not (x0 < x1 and y0 < y1):  # false for NaN too
            notes.add("boxes without area were left out", place)
            continue
        inside = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width_px)), min(y1, float(height_px)))
        if inside[0] >= inside[2] or inside[1] >= inside[3]:
            notes.add("boxes outside their image were left out", place)
            continue
        if max(abs(a - b) for a, b in zip(inside, (x0, y0, x1, y1), strict=True)) > 1:
            notes.add("boxes reached outside their image and were cut", place)
        boxes.append(Box(label, inside))
    return tuple(boxes)


def fitted_to(
    image: Path,
    found: Sequence[tuple[str, tuple[float, ...]]],
    *,
    stated_px: tuple[float, float],
    place: str,
    notes: Notes,
) -> tuple[Box, ...] | None:
    """``fitted`` to the upright image's own width and height; to those stated where its header cannot be read.

    None, and a fault in the notes, where more than a pixel lies between the two: the boxes were drawn before the image
    was resized or turned, and where they belong now nobody knows. A side that is not stated is infinite.
    """
    if not found:
        return ()
    size_px = upright_size(image) or stated_px
    if are_of_size(stated_px, size_px):
        return fitted(found, width_px=size_px[0], height_px=size_px[1], place=place, notes=notes)
    if image not in notes.box_faults:
        kind = "images are not of the size their annotations were drawn on and were taken as unlabelled"
        notes.add(kind, image.name)
        (width, height), (own_width, own_height) = stated_px, size_px
        notes.box_faults[image] = (
            f"annotated at {width:g} x {height:g}, upright it has {own_width} x {own_height} pixels"
        )
    return None


def are_of_size(stated_px: tuple[float, float], size_px: tuple[float, float]) -> bool:
    """Whether annotations drawn at a width and height belong to an image of this size, to a pixel; infinite: to any."""
    return all(stated == float("inf") or abs(stated - own) <= 1 for stated, own in zip(stated_px, size_px, strict=True))


def known(boxes: tuple[Box, ...] | None, *, was_annotated: bool, image: Path, notes: Notes) -> tuple[Box, ...] | None:
    """None where something was annotated and no box of it is left: what is there nobody knows, and not nothing."""
    if boxes == () and was_annotated:
        notes.add("images have no annotation that can be used and are taken as unlabelled", image.name)
        return None
    return boxes


def upright_size(image: Path) -> tuple[int, int] | None:
    """Width and height in pixels, after EXIF, of an image however large; None where its header cannot be read."""
    try:
        header = peek(image, spec=_ANY_SIZE)
    except ImageError:  # reported where images are read
        return None
    return header.width_px, header.height_px


def numbers(values: Iterable[Any], *, count: int, place: str) -> tuple[float, ...]:
    """``count`` numbers. Raises DataError."""
    found = list(values)
    try:
        if len(found) == count:
            return tuple(float(value) for value in found)
    except (TypeError, ValueError, OverflowError):
        pass
    raise DataError(f"{place}: {count} numbers are needed for a box, found {str(found)[:80]}")


def split_of(name: str) -> Split | None:
    """The split that a word of the name tells: ``instances_train2017`` is train, ``valid`` is val, ``valve`` none."""
    words = (word.lower().removesuffix("set") for word in re.findall("[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name))
    told = {SPLIT_WORDS.get(word) for word in words}
    return next((split for split in SPLITS if split in told), None)


def inside(root: Path, name: str, *, place: str) -> Path:
    """``root / name``. Raises DataError where it would leave the root: it could be any file of the machine."""
    clean = PurePosixPath(name.replace("\\", "/"))
    if clean.is_absolute() or ".." in clean.parts or name[1:2] == ":":
        raise DataError(f"{place}: '{name}' leaves the folder '{root}'; name files relative to it")
    return root / clean
