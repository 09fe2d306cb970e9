"""The masks of Pascal VOC's layout: ``SegmentationClass/*.png``, colours or palette numbers of classes.

CVAT names the colours in ``labelmap.txt``, labelme the numbers in ``class_names.txt``; without either the colours are
those of Pascal VOC, and classes are called by their number.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.mask_colours import VOC_COLOURS, names_by_colour
from pangu_cv.data.masks import IGNORE, stored_numbers
from pangu_cv.data.outlines import Outline, Outlined, runs_of
from pangu_cv.data.readers.annotation import Notes
from pangu_cv.data.readers.image_masks import class_names_in
from pangu_cv.errors import DataError, ImageError
from pangu_runtime.decode import DEFAULT_SPEC, decode, peek
from pangu_runtime.images import find_images

FOLDERS = ("SegmentationClass", "SegmentationClassPNG")
_BACKGROUND = ("background", "_background_")
_NO_MATTER = ("void", "ignore", "__ignore__")
_Names = dict[tuple[int, ...], str]  # by colour
_UNNAMED: _Names = {(0, 0, 0): _BACKGROUND[0], (224, 224, 192): _NO_MATTER[0]}


def folder_in(path: Path) -> Path | None:
    """Where the masks are."""
    return next((path / name for name in FOLDERS if (path / name).is_dir()), None)


def outlines(path: Path) -> tuple[dict[Path, Outlined], tuple[str, ...]]:
    """What each class covers in every image with a mask, by the image's resolved path, and notes.

    Raises DataError where there are no masks, or for names that are none.
    """
    folder = folder_in(path)
    if folder is None:
        raise DataError(f"{path}: no {FOLDERS[0]}/ beside JPEGImages/; boxes have no outlines to draw")
    masks = {mask.relative_to(folder).with_suffix("").as_posix(): mask for mask in find_images(folder)}
    names, has_colours = _names(path)
    notes, found = Notes(), dict[Path, Outlined]()
    for image in find_images(path / "JPEGImages"):
        mask = masks.pop(image.relative_to(path / "JPEGImages").with_suffix("").as_posix(), None)
        if mask is None:
            continue
        try:
            found[image.resolve()] = Outlined(tuple(_covered(mask, names, has_colours=has_colours)))
        except ImageError as error:
            notes.add(f"masks cannot be read ({error.reason}), and their images have none", mask.name)
        except KeyError as error:
            notes.add(
                "masks have a value that no class has, and their images have none", f"{mask.name}: {error.args[0]}"
            )
    for orphan in masks.values():
        notes.add("masks have no image", orphan.name)
    return found, notes.lines


def _names(path: Path) -> tuple[_Names, bool]:
    """The name of every colour, and whether colours count, or the numbers of a palette whatever its colours."""
    if (path / "labelmap.txt").is_file():
        return names_by_colour(path / "labelmap.txt"), True
    listed = path / "class_names.txt"
    if not listed.is_file():
        return {colour: str(number) for number, colour in enumerate(_voc(IGNORE)) if number}, False
    names = class_names_in(listed)
    return dict(zip(_voc(len(names)), names, strict=True)), False


def _voc(count: int) -> list[tuple[int, ...]]:
    return [tuple(colour) for colour in VOC_COLOURS[:count].tolist()]


def _covered(mask: Path, names: _Names, *, has_colours: bool) -> list[Outline]:
    """What each class covers, the background left out. Raises ImageError, and KeyError for a value of no class."""
    values_HW, colours = _values(mask, has_colours=has_colours)
    height_px, width_px = values_HW.shape
    found = []
    for value, colour in colours.items():
        label = names.get(colour, _UNNAMED.get(colour))
        if label is None:
            raise KeyError(colour if has_colours else value)
        if label not in _BACKGROUND:
            runs = runs_of(values_HW == value, left_px=0, top_px=0, height_px=height_px, width_px=width_px)
            found.append(Outline(None if label in _NO_MATTER else label, runs))
    return found


def _values(mask: Path, *, has_colours: bool) -> tuple[NDArray[Any], dict[int, tuple[int, ...]]]:
    """Values [H,W], and the colour of each that occurs; numbers have the colour that Pascal VOC gives them."""
    if not has_colours and peek(mask, spec=DEFAULT_SPEC).mode in ("P", "L", "1"):
        numbers_HW = stored_numbers(mask).astype(np.uint8)
        return numbers_HW, {int(n): tuple(VOC_COLOURS[n].tolist()) for n in np.unique(numbers_HW)}
    rgb_HW3 = decode(mask, spec=DEFAULT_SPEC)
    red_HW, green_HW, blue_HW = (rgb_HW3[..., channel].astype(np.int32) for channel in range(3))
    packed_HW = (red_HW << 16) | (green_HW << 8) | blue_HW
    return packed_HW, {int(n): (int(n) >> 16, int(n) >> 8 & 255, int(n) & 255) for n in np.unique(packed_HW)}
