"""The masks of Pascal VOC's layout: ``SegmentationClass/*.png``, colours or palette numbers of classes.

CVAT names the colours in ``labelmap.txt``, labelme the numbers in ``class_names.txt``; without either the colours are
those of Pascal VOC, and classes are called by their number.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pangu_cv.data.mask_colours import VOC_COLOURS
from pangu_cv.data.masks import BACKGROUND, IGNORE, IGNORED, LOSSY, NUMBERED, is_background, stored_numbers
from pangu_cv.data.outlines import Outline, Outlined, Outlines, runs_of
from pangu_cv.data.readers.annotation import Notes
from pangu_cv.data.readers.image_masks import class_names_in
from pangu_cv.data.readers.label_map import names_by_colour
from pangu_cv.errors import DataError, ImageError
from pangu_runtime.decode import decode, peek
from pangu_runtime.images import find_images, is_image_name, walk_files

FOLDERS = ("SegmentationClass", "SegmentationClassPNG")
_NUMBERED = "class_names.txt"
_VOID = tuple(VOC_COLOURS[IGNORE].tolist())
_VOIDS = ("void", "ignore", "ignored")  # so it is called where it is listed
_VOC: list[tuple[int, ...]] = [tuple(colour) for colour in VOC_COLOURS.tolist()]
_Names = dict[tuple[int, ...], str]  # by colour
_UNNAMED: _Names = {(0, 0, 0): BACKGROUND, _VOID: IGNORED}


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
            if error.reason == "values":
                notes.add("masks are no classes', and their images have none", str(error))
            else:
                notes.add(f"masks cannot be read ({error.reason}), and their images have none", mask.name)
    for orphan in masks.values():
        notes.add("masks have no image", orphan.name)
    classes = tuple(dict.fromkeys(name for name in names.values() if not _is_none(name)))
    drawn = {one.label for outlined in found.values() for one in outlined.objects}
    is_named = has_colours or (path / _NUMBERED).is_file()
    return Outlines(found, notes.lines, classes if is_named else tuple(name for name in classes if name in drawn))


def _is_none(name: str) -> bool:
    """Whether the name is of no class of objects."""
    return name == IGNORED or is_background(name)


def _holds_images(folder: Path) -> bool:
    return folder.is_dir() and any(is_image_name(Path(name).name) for name in walk_files(folder))


def _names(path: Path) -> tuple[_Names, bool]:
    """The name of every colour, and whether colours count, or the numbers of a palette whatever its colours."""
    if (path / "labelmap.txt").is_file():
        names = names_by_colour(path / "labelmap.txt")
        return {colour: IGNORED if colour == _VOID and name in _VOIDS else name for colour, name in names.items()}, True
    listed = path / _NUMBERED
    if not listed.is_file():
        return {colour: str(number) for number, colour in enumerate(_VOC[:IGNORE]) if number}, False
    listing = class_names_in(listed)
    numbered = listing[1:] if listing[0] == IGNORED else listing  # labelme's number -1
    if not is_background(numbered[0]):
        raise DataError(f"{listed}: its first line names the value 0, which is the background; found '{numbered[0]}'")
    return dict(zip(_VOC[: len(numbered)], numbered, strict=True)), False


def _outlined(mask: Path, names: _Names, *, has_colours: bool) -> Outlined:
    """What each class covers, the background left out. Raises ImageError, reason ``values`` for one of no class."""
    values_HW, colours, is_numbered = _values(mask, has_colours=has_colours)
    height_px, width_px = values_HW.shape
    found = []
    for value, colour in colours.items():
        label = names.get(colour, _UNNAMED.get(colour))
        if label is None:
            told = f"value {value}" if is_numbered else f"colour {colour}"
            raise ImageError(mask, "values", f"has the {told}, which no class has")
        if label == IGNORED or not is_background(label):
            runs = runs_of(values_HW == value, left_px=0, top_px=0, height_px=height_px, width_px=width_px)
            found.append(Outline(None if label == IGNORED else label, runs))
    return Outlined(tuple(found), ((width_px, height_px),))


def _values(mask: Path, *, has_colours: bool) -> tuple[NDArray[Any], dict[int, tuple[int, ...]], bool]:
    """Values [H,W], the colour of each that occurs, and whether they are numbers: those have Pascal VOC's colours."""
    header = peek(mask)
    if header.format in LOSSY:
        raise ImageError(mask, "values", "is a JPEG, which alters colours and numbers; save masks as PNG")
    if header.mode in NUMBERED and not has_colours and not (header.mode == "P" and _is_optimised(mask)):
        numbers_HW = stored_numbers(mask)
        if numbers_HW.max() > IGNORE:
            raise ImageError(mask, "values", f"has the value {numbers_HW.max()}, which no class has")
        return numbers_HW, {int(n): _VOC[int(n)] for n in np.unique(numbers_HW)}, True
    if header.bit_depth > 8:
        raise ImageError(mask, "values", f"is a {header.kind} picture; colours of classes have 8 bits")
    rgb_HW3 = decode(mask)
    packed_HW = rgb_HW3[..., 0].astype(np.int32)
    for channel in (1, 2):
        packed_HW = packed_HW << 8 | rgb_HW3[..., channel]
    colours: dict[int, tuple[int, ...]] = {
        int(n): (int(n) >> 16, int(n) >> 8 & 255, int(n) & 255) for n in np.unique(packed_HW)
    }
    return packed_HW, colours, False


def _is_optimised(mask: Path) -> bool:
    """Whether a palette holds Pascal VOC's colours at other numbers: a program that saved it renumbered them."""
    used = np.unique(stored_numbers(mask)).tolist()
    with Image.open(mask) as file:
        flat = file.getpalette() or []
    shown = {number: tuple(flat[3 * number : 3 * number + 3]) for number in used}
    return set(shown.values()) <= set(_VOC) and any(colour != _VOC[number] for number, colour in shown.items())
