"""labelme's layout, which AnyLabeling writes too: a JSON file of ``shapes`` for each image, beside it or apart."""

import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pangu_cv.data.masks import IGNORED, is_background
from pangu_cv.data.outlines import Outline, Outlined, Outlines
from pangu_cv.data.readers import class_folders
from pangu_cv.data.readers.annotation import Notes, fitted_to, known, numbers, upright_size
from pangu_cv.data.readers.folders import SPLIT_FOLDERS, describe, files_below
from pangu_cv.data.readers.image_sets import MAIN, has_lists, listed, stems_of
from pangu_cv.data.readers.labelme_pairs import pairs
from pangu_cv.data.readers.labelme_shapes import (
    Shape,
    begins_with_shapes,
    extent,
    holds_shapes,
    outline,
    shape_from,
)
from pangu_cv.data.readers.pictures import without_masks
from pangu_cv.data.sample import Box, Dataset, Sample, Split
from pangu_cv.errors import DataError
from pangu_runtime.images import find_images

_DEEPEST = 2  # folders below, to recognise it
_FILES_PAIRED = 200  # the same
_FLAGS = "files have a flag and no shapes: flags are not read, and these images are taken as unlabelled"
_BY_NAME = "files of shapes were taken for those of an image by the name that they say, not by their own"
_CLASSES = "folders with images, which may be classes: layout=class_folders reads them so"
_UNLABELLED = "images have no file of shapes and are taken as unlabelled (a file without shapes: no object)"
_ALONE = "files of shapes have no image, or several that would fit (what they hold as imageData is not read)"
_POINTS = ("point", "points")


def recognises(path: Path) -> bool:
    """Whether a file of shapes lies in the folder or up to two folders below, and one is of an image there."""
    if not any(holds_shapes(Path(folder), names) for folder, names in _upper(path)):
        return False
    files = islice((file for file in files_below(path, ".json") if begins_with_shapes(file)), _FILES_PAIRED)
    try:
        return any(image for _, image, _ in pairs(path, files, find_images(path), named=_named))
    except DataError:  # named where it is read
        return True


def _upper(path: Path) -> Iterator[tuple[str, list[str]]]:
    for folder, inner, names in os.walk(path, followlinks=True):
        inner[:] = [name for name in inner if not name.startswith(".")]
        if len(Path(folder).relative_to(path).parts) == _DEEPEST:
            inner.clear()
        yield folder, names


def read(path: Path) -> Dataset:
    """Samples with the boxes around their shapes; an image without a file is unlabelled, a file without shapes says
    that nothing is there.

    Shapes of one label and ``group_id`` are one object; points, regions labelled ``__ignore__`` and the background
    (``_background_``) are none. Splits are folders, or lists in ``ImageSets/Main`` beside ``JPEGImages``. Headers of
    images with boxes are read: boxes drawn on another size are not believed, and those images unlabelled. Raises
    DataError on a malformed file, and for an image with two.
    """
    notes = Notes()
    images = without_masks(path, find_images(path))
    boxes = {image: _boxes(image, file, notes) for image, file in _annotated(path, images, notes)}
    for image in images:
        if image not in boxes:
            notes.add(_UNLABELLED, image.name)
    if class_folders.recognises(path):
        notes.add(_CLASSES, path.name)
    splits = _splits(path, images, notes)
    samples = tuple(Sample(image, split=splits.get(image), boxes=boxes.get(image)) for image in images)
    return Dataset(path, "labelme", samples, notes.lines, box_faults=tuple(notes.box_faults.items()))


def outlines(path: Path) -> Outlines:
    """The outlines of every image with a file of shapes; see ``read``.

    A circle is a polygon of many corners, a rectangle one of four; lines have no outline. Raises DataError.
    """
    notes = Notes()
    found: dict[Path, Outlined] = {}
    files: dict[Path, Path] = {}
    for image, file in _annotated(path, without_masks(path, find_images(path)), notes):
        shapes, stated_px, is_flagged = _shapes(file)
        drawn = [shape for shape in shapes if shape.kind not in _POINTS]
        if len(drawn) < len(shapes):
            notes.add("images have points, which were left out", image.name)
        if (size_px := upright_size(image)) is None or (not drawn and (shapes or is_flagged)):
            continue
        if any(shape.kind == "rectangle" for shape in drawn):
            notes.add("files have rectangles, which are filled: outline what they are boxes around", file.name)
        own = tuple(
            Outline(
                None if shape.label == IGNORED else shape.label,
                outline(shape, width_px=size_px[0], height_px=size_px[1], place=str(file)),
            )
            for shape in drawn
        )
        if (first := files.setdefault(image.resolve(), file)).resolve() != file.resolve():
            raise DataError(f"{file}: its image is that of {first}, by a link; keep one of the two")
        found[image.resolve()] = Outlined(own, (stated_px,))
    return Outlines(found, notes.lines)


def _annotated(path: Path, images: tuple[Path, ...], notes: Notes) -> Iterator[tuple[Path, Path]]:
    """Every image that has a file of shapes, and the file. Raises DataError where it has two, or none has one."""
    files = [file for file in files_below(path, ".json") if begins_with_shapes(file)]
    taken: dict[Path, Path] = {}
    for file, image, is_by_name in pairs(path, files, images, named=_named):
        if image is None:
            notes.add(_ALONE, file.name)
        elif (first := taken.setdefault(image, file)) != file:
            raise DataError(f"{file}: its image '{image.name}' has another file of shapes, {first}; keep one")
        else:
            if is_by_name:
                notes.add(_BY_NAME, file.name)
            yield image, file
    if not taken:
        raise DataError(
            f"{path}: none of the {len(files)} files of shapes is of an image there; found {describe(path)}"
        )


def _boxes(image: Path, file: Path, notes: Notes) -> tuple[Box, ...] | None:
    shapes, stated_px, is_flagged = _shapes(file)
    if is_flagged and not shapes:
        notes.add(_FLAGS, file.name)
        return None
    found = _objects(shapes, file, notes)
    fitted = fitted_to(image, found, stated_px=stated_px, place=file.name, notes=notes)
    is_drawn = any(not is_background(shape.label) for shape in shapes)
    return known(fitted, was_annotated=is_drawn, image=image, notes=notes)


def _objects(shapes: list[Shape], file: Path, notes: Notes) -> list[tuple[str, tuple[float, ...]]]:
    """Label and box of every object."""
    found: dict[tuple[str, str], tuple[float, ...]] = {}
    for at, shape in enumerate(shapes):
        if is_background(shape.label):
            continue
        if shape.label == IGNORED or shape.kind in _POINTS:
            left = f"regions '{IGNORED}'" if shape.label == IGNORED else "points"
            notes.add(f"{left} were left out, which are no objects", file.name)
            continue
        own = extent(shape)
        key = (shape.label, f"shape {at}" if shape.group is None else f"group {shape.group}")
        before = found.get(key, own)
        found[key] = (*map(min, before[:2], own[:2]), *map(max, before[2:], own[2:]))
    return [(label, xyxy) for (label, _), xyxy in found.items()]


def _shapes(file: Path) -> tuple[list[Shape], tuple[float, float], bool]:
    """Every shape of the file, the width and height it was drawn at (infinite where not told), and whether it has a
    flag."""
    tree = _tree(file)
    entries = tree.get("shapes")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{file}: 'shapes' must be a list of objects")
    sides = [tree.get(side) or float("inf") for side in ("imageWidth", "imageHeight")]
    width, height = numbers(sides, count=2, place=f"{file}: imageWidth and imageHeight")
    flags = tree.get("flags")
    is_flagged = isinstance(flags, dict) and any(flags.values())
    return [shape_from(entry, f"{file}: shape {at}") for at, entry in enumerate(entries)], (width, height), is_flagged


def _tree(file: Path) -> dict[str, Any]:
    try:
        tree = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read as JSON ({error})") from None
    if not isinstance(tree, dict):
        raise DataError(f"{file}: an object with 'shapes' is needed, found a {type(tree).__name__}")
    return tree


def _splits(path: Path, images: tuple[Path, ...], notes: Notes) -> dict[Path, Split | None]:
    """By the lists of VOC's folders, else that of the first folder which is named like one."""
    inner = path / "JPEGImages"
    if has_lists(path, MAIN) and all(image.is_relative_to(inner) for image in images):
        return {**listed(path, MAIN, stems_of(images, inner), notes)}
    parts = {
        image: (SPLIT_FOLDERS.get(part.lower()) for part in image.relative_to(path).parts[:-1]) for image in images
    }
    return {image: next((split for split in told if split), None) for image, told in parts.items()}


def _named(file: Path) -> str:
    return str(_tree(file).get("imagePath") or "")
