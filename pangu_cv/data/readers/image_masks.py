"""Images beside masks whose pixels are class numbers: ``images/``, ``masks/``, ``classes.txt``, ``<split>.txt``."""

from collections.abc import Iterator
from pathlib import Path

from pangu_cv.data.readers.annotation import Notes, read_utf8
from pangu_cv.data.readers.folders import describe, split_folders
from pangu_cv.data.sample import Dataset, Sample, Split
from pangu_cv.errors import DataError
from pangu_runtime.images import find_images, is_image_name

_SPLITS: tuple[Split, ...] = ("train", "val", "test")


def recognises(path: Path) -> bool:
    """Whether both folders are there."""
    return (path / "images").is_dir() and (path / "masks").is_dir()


def read(path: Path) -> Dataset:
    """Samples with their mask, which is named as the image is; an image without one is unlabelled.

    ``classes.txt`` names the values 0, 1, … of a mask, one a line; without it a mask has background and defect. Splits
    are lists of stems (``train.txt``), or folders below ``images`` and ``masks``.
    """
    folder = path / "images"
    images = find_images(folder) if folder.is_dir() else ()
    if not images:
        raise DataError(f"{path}: no image in images/; found {describe(path)}")
    masks = {mask.relative_to(path / "masks").with_suffix("").as_posix(): mask for mask in find_images(path / "masks")}
    notes = Notes()
    listed = dict(_listed(path))
    folders = split_folders(folder)
    samples = []
    for image in images:
        stem = image.relative_to(folder).with_suffix("").as_posix()
        mask = masks.pop(stem, None) or masks.pop(f"{stem}_mask", None)
        if mask is None:
            notes.add("images have no mask and are taken as unlabelled", image.name)
        split = listed.get(stem) or folders.get(folder / Path(stem).parts[0])
        if listed and split is None:
            notes.add("images are in no list", image.name)
        samples.append(Sample(image, split=split, mask=mask))
    for orphan in masks.values():
        notes.add("masks have no image", orphan.name)
    file = path / "classes.txt"
    classes = class_names_in(file) if file.is_file() else ("background", "defect")
    return Dataset(path, "image_masks", tuple(samples), notes.lines, classes)


def _listed(path: Path) -> Iterator[tuple[str, Split]]:
    for split in _SPLITS:
        file = path / f"{split}.txt"
        if file.is_file():
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                if name := line.strip():
                    yield (
                        Path(name).with_suffix("").as_posix() if is_image_name(name) else name,
                        split,
                    )


def class_names_in(file: Path) -> tuple[str, ...]:
    """The names of the numbers 0, 1, … in a mask, one a line. Raises DataError for fewer than 2, or more than 255."""
    names = tuple(name.strip() for name in read_utf8(file).splitlines() if name.strip())
    if len(names) < 2 or len(set(names)) < len(names) or len(names) > 255:
        raise DataError(
            f"{file}: 2 to 255 different names are needed, the first for 0; found {len(names)}: {names[:8]}"
        )
    return names
