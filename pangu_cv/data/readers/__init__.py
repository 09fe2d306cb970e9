"""Reading a labelled dataset, whichever of the known layouts it has."""

import dataclasses
import difflib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Literal, NoReturn

from pangu_cv.data import versions
from pangu_cv.data.outlines import Outlines
from pangu_cv.data.readers import (
    class_folders,
    coco,
    csv_table,
    image_masks,
    labelme,
    mvtec,
    voc,
    voc_masks,
    yolo,
)
from pangu_cv.data.readers.folders import describe
from pangu_cv.data.readers.pictures import pictures_below
from pangu_cv.data.readers.unread import boxes_in
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError

__all__ = [
    "Layout",
    "outlines_of",
    "pictures_below",
    "read_dataset",
    "read_images",
    "recognise",
    "require_same_classes",
]

Layout = Literal["auto", "class_folders", "mvtec", "csv", "coco", "yolo", "voc", "labelme", "image_masks", "version"]

_BY_FILE: dict[Layout, ModuleType] = {"coco": coco, "yolo": yolo}
_BY_FOLDER: dict[Layout, ModuleType] = {
    "mvtec": mvtec,
    "coco": coco,
    "voc": voc,
    "yolo": yolo,
    "image_masks": image_masks,
    "labelme": labelme,
    "class_folders": class_folders,
}
_EXPECTED = (
    "looked for version.json (version), a table with the columns file,label (csv), train/good beside test/<defect> "
    "(mvtec), annotations/*.json (coco), data.yaml or labels/ beside images/ (yolo), Annotations/ or "
    "SegmentationClass/ beside JPEGImages/ (voc), masks/ beside images/ (image_masks), *.json with 'shapes' of "
    "images (labelme), and <class>/*.jpg or train|val|test/<class>/*.jpg (class_folders)"
)


def read_dataset(path: Path, *, layout: Layout = "auto", root: Path | None = None) -> Dataset:
    """The samples of a folder or table; ``root`` is the folder that a table's file names start from.

    No pixels are read. The first layout whose marks are there is taken, in the order of ``recognise``. What was left
    out stands in ``Dataset.notes``. Raises DataError, naming what was looked for and what was found.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(_missing(path))
    found = (recognise(path) or _refuse(path)) if layout == "auto" else layout
    if found == "csv":
        return csv_table.read(_table_of(path), root=root)
    if found == "coco":
        return coco.read(path, root=root)
    if found == "version":
        return versions.read(path, root=root)
    if path.is_file() and found != "yolo":
        raise DataError(f"{path}: is a file; the layout '{found}' needs a folder (a table's name must end in .csv)")
    dataset: Dataset = _BY_FOLDER[found].read(path)
    if root is None:
        return dataset
    note = f"root '{root}' is ignored: only tables, COCO files and dataset versions have one, and this is {found}"
    return dataclasses.replace(dataset, notes=(*dataset.notes, note))


def outlines_of(dataset: Dataset, path: Path, *, layout: Layout = "auto", root: Path | None = None) -> Outlines:
    """The outlines of a dataset that was read so from ``path``.

    Raises DataError for a layout that has none.
    """
    path = Path(path)
    if layout == "version" or (layout == "auto" and versions.recognises(path)):
        raise DataError(f"{path}: is a dataset version, which keeps no outlines; convert what it was made from")
    match dataset.layout:
        case "coco":
            return coco.outlines(path, root=root)
        case "yolo":
            return yolo.outlines(path)
        case "labelme":
            return labelme.outlines(path)
        case "voc":
            found = voc_masks.outlines(path)
            splits, notes = voc.mask_splits(dataset)
            return dataclasses.replace(found, splits=splits, notes=(*found.notes, *notes))
        case _:
            raise DataError(
                f"{dataset.root}: the layout '{dataset.layout}' has no outlines that could be drawn as masks; COCO "
                "(segmentation), YOLO (polygons), labelme and VOC (SegmentationClass) have"
            )


def read_images(path: Path, *, layout: Layout = "auto", root: Path | None = None) -> Dataset:
    """As ``read_dataset``, for those who need no labels: a folder of no known layout is the pictures below it."""
    path = Path(path)
    if layout == "auto" and path.is_dir() and recognise(path) is None:
        return Dataset(path, "images", tuple(Sample(image) for image in pictures_below(path)))
    return read_dataset(path, layout=layout, root=root)


def recognise(path: Path) -> Layout | None:
    """The layout of an existing file or folder, None if it is none of those known."""
    if path.is_file():
        if csv_table.is_table(path):
            return "csv"
        return next((name for name, module in _BY_FILE.items() if module.recognises(path)), None)
    if versions.recognises(path):
        return "version"
    if len(csv_table.tables_in(path)) == 1:
        return "csv"
    return next((name for name, module in _BY_FOLDER.items() if module.recognises(path)), None)


def require_same_classes(train: Iterable[Sample], test: Iterable[Sample]) -> None:
    """Raises DataError naming the classes of ``test`` that ``train`` lacks; fewer classes in ``test`` are fine."""
    known = {s.label for s in train}
    lacking = sorted({s.label for s in test if s.label is not None} - known)
    if lacking:
        raise DataError(
            f"train lacks {len(lacking)} of the test classes: {', '.join(lacking)}; it has "
            f"{', '.join(sorted(c for c in known if c is not None)) or 'none'}. Add training images of them, mend the "
            "spelling, or leave them out of test"
        )


def _refuse(path: Path) -> NoReturn:
    if path.is_file():
        raise DataError(f"{path}: is a file, but no table whose header names the columns file and label")
    if tables := csv_table.tables_in(path):
        names = ", ".join(table.name for table in tables[:8])
        raise DataError(f"{path}: holds {len(tables)} tables ({names}); name one of them")
    raise DataError(f"{path}: no layout recognised: {_EXPECTED}; found {describe(path)}. {_advice(path)}")


def _table_of(path: Path) -> Path:
    if path.is_file():
        return path
    tables = csv_table.tables_in(path)
    if len(tables) != 1:
        names = ", ".join(t.name for t in tables[:8]) or describe(path)
        raise DataError(f"{path}: one table with the columns file and label is needed, found {len(tables)}: {names}")
    return tables[0]


def _advice(path: Path) -> str:
    names = {entry.name.lower() for entry in path.iterdir()}
    if "data.yaml" in names:
        return "Its data.yaml must say 'names', and 'train' or 'val'"
    if boxes := boxes_in(path):
        return (
            f"'{boxes}' looks like boxes that a labelling tool wrote beside its images: export them as COCO, Pascal "
            "VOC or YOLO with a data.yaml, or sort images and labels into the two folders of such a layout. Where the "
            "folders are classes all the same, say so: --layout class_folders, or data.layout=class_folders"
        )
    if {"annotations", "labels", "jpegimages", "masks"} & names:
        return "This looks like half of a layout with boxes or masks: the other folder is missing or empty"
    return "Unlabelled images need no layout to pretrain or predict; to train, sort them into one folder per class"


def _missing(path: Path) -> str:
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        path, parent = parent, parent.parent
    names = sorted(entry.name for entry in parent.iterdir()) if parent.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1)
    nearest = f"nearest is '{parent / close[0]}'" if close else f"the folder '{parent}' does"
    return f"'{path}' does not exist; {nearest}"
