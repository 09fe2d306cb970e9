"""Class folders: ``<class>/*.jpg``, or ``train|val|valid|test/<class>/*.jpg``; deeper folders belong to their class."""

from pathlib import Path

from pangu_cv.data.readers.folders import describe, loose_images, split_folders, subfolders
from pangu_cv.data.readers.pictures import without_masks
from pangu_cv.data.readers.unread import boxes_in
from pangu_cv.data.sample import Dataset, Sample, Split
from pangu_cv.errors import DataError
from pangu_runtime.images import find_images

# Folders that hold one part of every sample, not one class of them.
_PARTS = frozenset(("images", "imgs", "img", "masks", "labels", "annotations", "jpegimages", "ground_truth"))


def recognises(path: Path) -> bool:
    """Whether some folder below ``path``, or below its splits, holds images, and none is a part or has boxes beside."""
    parents = tuple(split_folders(path)) or (path,)
    classes = [folder for parent in parents for folder in subfolders(parent)]
    if {folder.name.lower() for folder in (*subfolders(path), *classes)} & _PARTS:
        return False
    return any(find_images(folder) for folder in classes) and boxes_in(path) is None


def read(path: Path) -> Dataset:
    """Samples labelled by their folder's name. Raises DataError if no class folder holds an image."""
    splits = split_folders(path)
    samples: list[Sample] = []
    notes: list[str] = []
    for folder, split in splits.items() or [(path, None)]:
        _read_classes(folder, split, samples, notes)
    if not samples:
        raise DataError(
            f"{path}: no image in a class folder; allowed is <class>/*.jpg or train|val|test/<class>/*.jpg; "
            f"found {describe(path)}"
        )
    if splits:
        beside = [p.name for p in subfolders(path) if p not in splits]
        notes += [f"not read, beside the splits: {', '.join(beside)}"] * bool(beside)
    classes = sorted({s.label for s in samples if s.label is not None})
    if len(classes) == 1:
        notes.append(f"one class only: '{classes[0]}'")
    return Dataset(path, "class_folders", tuple(samples), tuple(notes))


def _read_classes(folder: Path, split: Split | None, samples: list[Sample], notes: list[str]) -> None:
    for class_folder in subfolders(folder):
        images = without_masks(folder, find_images(class_folder))
        samples += [Sample(image, label=class_folder.name, split=split) for image in images]
        if not images:
            notes.append(f"no image in the folder {class_folder.name}" + (f" of {folder.name}" if split else ""))
    if loose := loose_images(folder):
        notes.append(
            f"{loose} images lie beside the class folders" + (f" of {folder.name}" if split else "") + ": not read"
        )
