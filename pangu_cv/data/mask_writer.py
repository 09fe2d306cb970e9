"""Outlines as images beside masks: ``images/``, ``masks/``, ``classes.txt``, ``<split>.txt``."""

import shutil
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pangu_cv.data.duplicates import relative
from pangu_cv.data.mask_colours import VOC_COLOURS
from pangu_cv.data.masks import BACKGROUND, IGNORE, IGNORED, is_background
from pangu_cv.data.outlines import Outlined, Outlines, class_mask_of
from pangu_cv.data.readers.annotation import Notes, are_of_size, upright_size
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError, ImageError
from pangu_runtime.decode import DEFAULT_SPEC, DecodeSpec, peek

_MOST_CLASSES = 254  # beside the background; 255 means no matter what


@dataclass(frozen=True)
class Written:
    """How many images were written, how many of them with a mask, and what stands in the way of others."""

    images: int
    masks: int
    notes: tuple[str, ...]


def write_masks(dataset: Dataset, outlines: Outlines, folder: Path, *, spec: DecodeSpec = DEFAULT_SPEC) -> Written:
    """Write into an empty folder. Images keep their names below the dataset's root or its folder of images.

    An image whose objects are not all outlined is written without a mask: it would teach that nothing is there. Raises
    DataError where no object has an outline, or no image could be given a mask.
    """
    classes, notes, outlined = _classes(dataset, outlines), Notes(), outlines.by_image
    base = _base(dataset)
    names = _names([relative(sample.path, base) for sample in dataset], base)
    images, drawn = 0, set[str]()
    for sample, (name, stem) in zip(dataset, names, strict=True):
        try:
            peek(sample.path, spec=spec)
        except ImageError:
            notes.add("images cannot be read and were left out", name)
            continue
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sample.path, folder / "images" / name)
        images += 1
        if _draw(sample, name, outlined, classes, folder / "masks" / f"{stem}.png", notes):
            drawn.add(stem)
        split = sample.split if outlines.splits is None else outlines.splits.get(sample.path.resolve())
        if split:
            with (folder / f"{split}.txt").open("a", encoding="utf-8", errors="surrogateescape") as listing:
                listing.write(f"{stem}\n")
    if not drawn:
        raise DataError(f"{dataset.root}: no image can be given a mask: {'; '.join(notes.lines) or 'there is none'}")
    _require_apart(names, base, drawn)
    (folder / "classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    return Written(images, len(drawn), notes.lines)


def _base(dataset: Dataset) -> Path:
    for inner in (dataset.root / "images", dataset.root / "JPEGImages"):
        if all(sample.path.is_relative_to(inner) for sample in dataset):
            return inner
    return dataset.root


def _names(names: Sequence[str], base: Path) -> list[tuple[str, str]]:
    """Every image's name, with and without its suffix. Raises DataError where two would have one mask."""
    stems = [Path(name).with_suffix("").as_posix() for name in names]
    taken: dict[str, str] = {}
    for name, stem in zip(names, stems, strict=True):
        if (first := taken.setdefault(stem, name)) != name:
            raise DataError(f"{base}: '{first}' and '{name}' would share the mask '{stem}.png'; rename one")
    return list(zip(names, stems, strict=True))


def _require_apart(names: Sequence[tuple[str, str]], base: Path, drawn: Set[str]) -> None:
    """Raise DataError where an image without a mask would be read with another's: ``a_mask.png`` may be that of a."""
    for name, stem in names:
        if stem not in drawn and f"{stem}_mask" in drawn:
            raise DataError(f"{base}: the mask of '{stem}_mask' would pass for that of '{name}'; rename one")


def _classes(dataset: Dataset, outlines: Outlines) -> tuple[str, ...]:
    """The names of the numbers in a mask. Raises DataError."""
    objects = [one for found in outlines.by_image.values() for one in found.objects]
    drawn = {one.label for one in objects if one.shape is not None and one.label is not None}
    if all(is_background(name) for name in drawn):
        told = "".join(f"; {line}" for line in outlines.notes[:3])
        if any(one.label is None for one in objects):
            told += f"; all that is outlined is to be ignored ('{IGNORED}', or the value {IGNORE} of a mask)"
        raise DataError(
            f"{dataset.root}: no object has an outline (layout {dataset.layout}); there is nothing to draw{told}"
        )
    names = outlines.classes or sorted(name for name in drawn if not is_background(name))
    if unfit := [name for name in names if [name] != name.encode(errors="ignore").decode().strip().splitlines()]:
        raise DataError(f"{dataset.root}: {unfit[0]!r} is no name for a class that a line of classes.txt could hold")
    if len(names) > _MOST_CLASSES:
        raise DataError(f"{dataset.root}: at most {_MOST_CLASSES} classes fit into masks; found {len(names)}")
    return (BACKGROUND, *names)


def _draw(
    sample: Sample, name: str, outlined: Mapping[Path, Outlined], classes: tuple[str, ...], mask: Path, notes: Notes
) -> bool:
    found = outlined.get(sample.path.resolve())
    if found is None:
        notes.add("images are unlabelled and have no mask", name)
        return False
    if any(one.shape is None for one in found.objects):
        notes.add("images have an object without an outline, and so no mask", name)
        return False
    size_px = upright_size(sample.path)
    assert size_px is not None, "its header was read a moment ago"
    if not all(are_of_size(stated_px, size_px) for stated_px in found.stated_px):
        notes.add("images are not of the size their annotations were drawn on, and have no mask", name)
        return False
    try:
        mask_HW, empty = class_mask_of(found.objects, classes, width_px=size_px[0], height_px=size_px[1])
    except ValueError as error:
        notes.add(f"images have an outline that cannot be drawn ({error}), and so no mask", name)
        return False
    if set(np.unique(mask_HW).tolist()) - {0} == {IGNORE}:  # of two classes read as the defect, and it may mean one
        notes.add("images show nothing but what is to be ignored, and have no mask", name)
        return False
    if empty and empty == len(found.objects):
        notes.add("images have outlines that cover no pixel's middle alone, and so no mask", name)
        return False
    if empty:
        notes.add("images have outlines that cover no pixel's middle beside others", name)
    mask.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(mask_HW).convert("P")
    picture.putpalette(VOC_COLOURS.tobytes())
    picture.save(mask)
    return True
