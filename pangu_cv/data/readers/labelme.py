"""labelme's layout, which AnyLabeling writes too: a JSON file of ``shapes`` for each image, beside it or apart."""

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pangu_cv.data.outlines import Outline, Outlined
from pangu_cv.data.readers.annotation import Notes, fitted_to, known, numbers, upright_size
from pangu_cv.data.readers.folders import SPLIT_FOLDERS, describe, split_folders, subfolders
from pangu_cv.data.readers.labelme_shapes import IGNORED, Shape, begins_with_shapes, extent, outline, shape_from
from pangu_cv.data.sample import Box, Dataset, Sample, Split
from pangu_cv.errors import DataError
from pangu_runtime.images import find_images

_FILES_OPENED = 50  # per folder, to recognise it
_UNLABELLED = "images have no file of shapes and are taken as unlabelled (a file without shapes: no object)"


def recognises(path: Path) -> bool:
    """Whether a file of shapes lies in the folder, in those below it or in those of its splits."""
    parts = (path, *subfolders(path), *(below for split in split_folders(path) for below in subfolders(split)))
    return any(begins_with_shapes(file) for folder in parts for file in _json_files(folder)[:_FILES_OPENED])


def read(path: Path) -> Dataset:
    """Samples with the boxes around their shapes; an image without a file is unlabelled, a file without shapes says
    that nothing is there.

    Shapes of one label and ``group_id`` are one object; points, and regions labelled ``__ignore__``, are none. Splits
    are folders. Headers of images with boxes are read: boxes drawn on another size are not believed, and those images
    unlabelled. Raises DataError on a malformed file, and for an image with two.
    """
    notes = Notes()
    images = find_images(path)
    boxes = {image: _boxes(image, file, tree, notes) for image, file, tree in _annotated(path, images, notes)}
    if not boxes:
        raise DataError(f"{path}: no image has a file of shapes; found {describe(path)}")
    for image in images:
        if image not in boxes:
            notes.add(_UNLABELLED, image.name)
    samples = tuple(Sample(image, split=_split(image.relative_to(path)), boxes=boxes.get(image)) for image in images)
    return Dataset(path, "labelme", samples, notes.lines, box_faults=tuple(notes.box_faults.items()))


def outlines(path: Path) -> tuple[dict[Path, Outlined], tuple[str, ...]]:
    """The outlines of every image with a file of shapes, by its resolved path, and notes; see ``read``.

    A circle is a polygon of many corners, a rectangle one of four; lines have no outline. Raises DataError.
    """
    notes = Notes()
    found: dict[Path, Outlined] = {}
    for image, file, tree in _annotated(path, find_images(path), notes):
        shapes, stated_px = _shapes(tree, file)
        size_px = upright_size(image)
        if size_px is None:
            continue
        own = []
        for shape in shapes:
            if shape.kind == "rectangle":
                notes.add(
                    "rectangles are filled: where they are boxes around something, outline that instead", file.name
                )
            label = None if shape.label == IGNORED else shape.label
            own.append(Outline(label, outline(shape, width_px=size_px[0], height_px=size_px[1], place=str(file))))
        found[image.resolve()] = Outlined(tuple(own), (stated_px,))
    return found, notes.lines


def _annotated(path: Path, images: tuple[Path, ...], notes: Notes) -> Iterator[tuple[Path, Path, dict[str, Any]]]:
    """Every image that has a file of shapes, the file, and what stands in it. Raises DataError where it has two."""
    image_of = _ImageOf(images)
    taken: dict[Path, Path] = {}
    for file in sorted(path.rglob("*.json")):
        if file.name.startswith(".") or not begins_with_shapes(file):
            continue
        tree = _tree(file)
        image = image_of(file, str(tree.get("imagePath") or ""))
        if image is None:
            notes.add("files of shapes have no image (what they hold as imageData is not read)", file.name)
        elif (first := taken.setdefault(image, file)) != file:
            raise DataError(f"{file}: its image '{image.name}' has another file of shapes, {first}; keep one")
        else:
            yield image, file, tree


class _ImageOf:
    """The image that a file of shapes is of: never one outside the dataset, whatever the file says."""

    def __init__(self, images: tuple[Path, ...]) -> None:
        self._images = set(images)
        self._by_stem: dict[Path, list[Path]] = defaultdict(list)
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for image in images:
            self._by_stem[image.with_suffix("")].append(image)
            self._by_name[image.name].append(image)

    def __call__(self, file: Path, named: str) -> Path | None:
        """Beside it with its stem, since pairs are renamed; where ``imagePath`` says; the only one of that name."""
        clean = named.replace("\\", "/")
        at = Path(os.path.normpath(file.parent / clean))
        beside = self._by_stem.get(file.with_suffix(""), [])
        if at in self._images and (not beside or at in beside):
            return at
        alike = self._by_name.get(PurePosixPath(clean).name, [])
        return beside[0] if beside else alike[0] if len(alike) == 1 else None


def _boxes(image: Path, file: Path, tree: dict[str, Any], notes: Notes) -> tuple[Box, ...] | None:
    shapes, stated_px = _shapes(tree, file)
    found = _objects(shapes, file, notes)
    fitted = fitted_to(image, found, stated_px=stated_px, place=file.name, notes=notes)
    return known(fitted, was_annotated=bool(shapes), image=image, notes=notes)


def _objects(shapes: list[Shape], file: Path, notes: Notes) -> list[tuple[str, tuple[float, ...]]]:
    """Label and box of every object."""
    found: dict[tuple[str, str], tuple[float, ...]] = {}
    for at, shape in enumerate(shapes):
        if shape.label == IGNORED or shape.kind in ("point", "points"):
            kind = "points were left out" if shape.label != IGNORED else f"regions '{IGNORED}' were left out"
            notes.add(f"{kind}, which are no objects", file.name)
            continue
        own = extent(shape)
        key = (shape.label, f"group {shape.group}" if shape.group is not None else f"shape {at}")
        before = found.get(key, own)
        found[key] = (*map(min, before[:2], own[:2]), *map(max, before[2:], own[2:]))
    return [(label, xyxy) for (label, _), xyxy in found.items()]


def _shapes(tree: dict[str, Any], file: Path) -> tuple[list[Shape], tuple[float, float]]:
    """Every shape of the file, and the width and height it was drawn at; infinite where they are not told."""
    listed = tree.get("shapes")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise DataError(f"{file}: 'shapes' must be a list of objects")
    sides = [tree.get(side) or float("inf") for side in ("imageWidth", "imageHeight")]
    width, height = numbers(sides, count=2, place=f"{file}: imageWidth and imageHeight")
    return [shape_from(entry, f"{file}: shape {at}") for at, entry in enumerate(listed)], (width, height)


def _tree(file: Path) -> dict[str, Any]:
    try:
        tree = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read as JSON ({error})") from None
    if not isinstance(tree, dict):
        raise DataError(
            f"{file}: is no file of labelme: an object with 'shapes' is needed, found a {type(tree).__name__}"
        )
    return tree


def _split(relative: Path) -> Split | None:
    """That of the first folder which is named like one."""
    named = (SPLIT_FOLDERS.get(part.lower()) for part in relative.parts[:-1])
    return next((split for split in named if split), None)


def _json_files(folder: Path) -> list[Path]:
    try:
        names = os.listdir(folder)  # noqa: PTH208, 1 M names
    except OSError:  # told where images are listed
        return []
    return [folder / name for name in sorted(names) if name.lower().endswith(".json") and not name.startswith(".")]
