"""The masks of Pascal VOC's layout: ``SegmentationClass/*.png``, colours or palette numbers of classes.

CVAT names the colours in ``labelmap.txt``, labelme the numbers in ``class_names.txt``; without either the colours are
those of Pascal VOC, and classes are called by their number.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.mask_colours import VOC_COLOURS
from pangu_cv.data.masks import IGNORE, LOSSY, NUMBERED, stored_numbers
from pangu_cv.data.outlines import Outline, Outlined, Outlines, runs_of
from pangu_cv.data.readers.annotation import Notes
from pangu_cv.data.readers.image_masks import class_names_in
from pangu_cv.data.readers.label_map import names_by_colour
from pangu_cv.errors import DataError, ImageError
from pangu_runtime.decode import decode, peek
from pangu_runtime.images import find_images

FOLDERS = ("SegmentationClass", "SegmentationClassPNG")
_NUMBERED = "class_names.txt"
_BACKGROUND = ("background", "_background_")
_NO_MATTER = "__ignore__"
_VOID = (224, 224, 192)  # Pascal VOC's colour of 255
_VOIDS = ("void", "ignore", "ignored")  # so it is called where it is listed
_Names = dict[tuple[int, ...], str]  # by colour
_UNNAMED: _Names = {(0, 0, 0): _BACKGROUND[0], _VOID: _NO_MATTER}


def folder_in(path: Path) -> Path | None:
    """Where the masks are: the first of these folders with an image (labelme leaves arrays of numpy in one of them)."""
    return next((path / name for name in FOLDERS if _holds_images(path / name)), None)


def outlines(path: Path) -> Outlines:
    """What each class covers in every image with a mask; classes in the order of their numbers.

    Raises DataError where there are no masks, or for names that are none.
    """
    folder = folder_in(path)
    if folder is None:
        raise DataError(f"{path}: no masks in {FOLDERS[0]}/ beside JPEGImages/; boxes have no outlines to draw")
    masks = {mask.relative_to(folder).with_suffix("").as_posix(): mask for mask in find_images(folder)}
    names, has_colours = _names(path)
    notes, found = Notes(), dict[Path, Outlined]()
    for image in find_images(path / "JPEGImages"):
        mask = masks.pop(image.relative_to(path / "JPEGImages").with_suffix("").as_posix(), None)
        if mask is None:
            continue
        try:
            found[image.resolve()] = _outlined(mask, names, has_colours=has_colours)
        except ImageError as error:
            notes.add(f"masks cannot be read ({error.reason}), and their images have none", mask.name)
        except KeyError as error:
            notes.add("masks have a value that is no class's, and their images have none", f"{mask.name}: {error}")
    for orphan in masks.values():
        notes.add("masks have no image", orphan.name)
    classes = tuple(dict.fromkeys(name for name in names.values() if not _is_none(name)))
    drawn = {one.label for outlined in found.values() for one in outlined.objects}
    is_named = has_colours or (path / _NUMBERED).is_file()
    return Outlines(found, notes.lines, classes if is_named else tuple(name for name in classes if name in drawn))


def _is_none(name: str) -> bool:
    """Whether the name is of no class of objects."""
    return name == _NO_MATTER or name.casefold() in _BACKGROUND


def _holds_images(folder: Path) -> bool:
    return folder.is_dir() and bool(find_images(folder))


def _names(path: Path) -> tuple[_Names, bool]:
    """The name of every colour, and whether colours count, or the numbers of a palette whatever its colours."""
    if (path / "labelmap.txt").is_file():
        names = names_by_colour(path / "labelmap.txt")
        return {
            colour: _NO_MATTER if colour == _VOID and name in _VOIDS else name for colour, name in names.items()
        }, True
    listed = path / _NUMBERED
    if not listed.is_file():
        return {colour: str(number) for number, colour in enumerate(_voc(IGNORE)) if number}, False
    listing = class_names_in(listed)
    numbered = listing[1:] if listing[0] == _NO_MATTER else listing  # labelme's number -1
    if numbered[0].casefold() not in _BACKGROUND:
        raise DataError(f"{listed}: its first line names the value 0, which is the background; found '{numbered[0]}'")
    return dict(zip(_voc(len(numbered)), numbered, strict=True)), False


def _voc(count: int) -> list[tuple[int, ...]]:
    return [tuple(colour) for colour in VOC_COLOURS[:count].tolist()]


def _outlined(mask: Path, names: _Names, *, has_colours: bool) -> Outlined:
    """What each class covers, the background left out. Raises ImageError, and KeyError for a value of no class."""
    values_HW, colours = _values(mask, has_colours=has_colours)
    height_px, width_px = values_HW.shape
    found = []
    for value, colour in colours.items():
        label = names.get(colour, _UNNAMED.get(colour))
        if label is None:
            raise KeyError(value if value <= IGNORE and colour == _voc(IGNORE + 1)[value] else colour)
        if label == _NO_MATTER or not _is_none(label):
            runs = runs_of(values_HW == value, left_px=0, top_px=0, height_px=height_px, width_px=width_px)
            found.append(Outline(None if label == _NO_MATTER else label, runs))
    return Outlined(tuple(found), ((width_px, height_px),))


def _values(mask: Path, *, has_colours: bool) -> tuple[NDArray[Any], dict[int, tuple[int, ...]]]:
    """Values [H,W], and the colour of each that occurs; numbers have the colour that Pascal VOC gives them."""
    header = peek(mask)
    if header.format in LOSSY:
        raise ImageError(mask, "values", "is a JPEG, which alters colours and numbers; save masks as PNG")
    if header.mode in NUMBERED and not has_colours:
        numbers_HW = stored_numbers(mask)
        if numbers_HW.max() > IGNORE:
            raise KeyError(int(numbers_HW.max()))
        return numbers_HW, {int(n): tuple(VOC_COLOURS[int(n)].tolist()) for n in np.unique(numbers_HW)}
    if header.bit_depth > 8:
        raise ImageError(mask, "values", f"is a {header.kind} picture; colours of classes have 8 bits")
    rgb_HW3 = decode(mask)
    packed_HW = rgb_HW3[..., 0].astype(np.int32)
    for channel in (1, 2):
        packed_HW = packed_HW << 8 | rgb_HW3[..., channel]
    return packed_HW, {int(n): (int(n) >> 16, int(n) >> 8 & 255, int(n) & 255) for n in np.unique(packed_HW)}
