"""The tables of a dataset version: ``labels.csv`` for every image, ``annotations.json`` (COCO) for those with boxes.

Names are relative to the folder of the images, or for masks that the version brings itself (``own_mask``) to its own.
A name may hold anything a file system allows, bytes that are no UTF-8 included.
"""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pangu_cv.data.readers.annotation import inside
from pangu_cv.data.sample import Box, Sample, Split
from pangu_cv.errors import DataError

LABELS, BOXES = "labels.csv", "annotations.json"
_COLUMNS = ("file", "label", "split", "group", "caption", "mask", "own_mask")
_SPLITS: tuple[str, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Row:
    """One image as a version knows it; ``mask`` is relative to the images, ``own_mask`` to the version."""

    file: str
    label: str | None = None
    split: Split | None = None
    group: str | None = None
    caption: str | None = None
    mask: str | None = None
    own_mask: str | None = None
    boxes: tuple[Box, ...] | None = None

    def sample(self, images: Path, own: Path) -> Sample:
        """The same as a sample of the images below ``images``."""
        mask = images / self.mask if self.mask else own / self.own_mask if self.own_mask else None
        return Sample(images / self.file, self.label, self.split, mask, self.caption, self.group, self.boxes)


def write_tables(rows: Sequence[Row], folder: Path, *, size_of: Callable[[Row], tuple[int, int] | None]) -> None:
    """Both tables, the second only where an image has boxes; ``size_of`` is an image's width and height if known."""
    # surrogateescape: a name that is no UTF-8 is written as the bytes it is
    with (folder / LABELS).open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(_COLUMNS)
        table.writerows([getattr(row, column) or "" for column in _COLUMNS] for row in rows)
    if any(row.boxes is not None for row in rows):
        (folder / BOXES).write_text(json.dumps(_coco(rows, size_of), indent=1) + "\n", encoding="utf-8")


def read_tables(folder: Path) -> tuple[Row, ...]:
    """The rows of a version in its order. Raises DataError."""
    boxes = _boxes(folder / BOXES) if (folder / BOXES).is_file() else {}
    try:
        with (folder / LABELS).open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            return tuple(_row(cells, boxes, folder) for cells in csv.DictReader(stream, strict=True))
    except (OSError, csv.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder / LABELS}: is no table of a dataset version ({error})") from None


def _row(cells: dict[str, str], boxes: dict[str, tuple[Box, ...]], folder: Path) -> Row:
    for column in ("file", "mask", "own_mask"):
        inside(folder, cells[column], place=str(folder / LABELS))
    if cells["split"] and cells["split"] not in _SPLITS:
        raise DataError(f"{folder / LABELS}: split '{cells['split']}' of '{cells['file']}' is none of {_SPLITS}")
    return Row(
        cells["file"],
        cells["label"] or None,
        cast(Split | None, cells["split"] or None),
        cells["group"] or None,
        cells["caption"] or None,
        cells["mask"] or None,
        cells["own_mask"] or None,
        boxes.get(cells["file"]),
    )


def _coco(rows: Sequence[Row], size_of: Callable[[Row], tuple[int, int] | None]) -> dict[str, Any]:
    names = sorted({box.label for row in rows for box in row.boxes or ()})
    numbers = {name: number for number, name in enumerate(names, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for row in rows:
        if row.boxes is None:
            continue
        size = size_of(row)
        number = len(images) + 1
        images.append({"id": number, "file_name": row.file} | dict(zip(("width", "height"), size or (), strict=False)))
        for box in row.boxes:
            x0, y0, x1, y1 = box.xyxy
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": numbers[box.label],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "xyxy": [x0, y0, x1, y1],  # x + width need not be the right edge to the last bit
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _boxes(path: Path) -> dict[str, tuple[Box, ...]]:
    """The boxes of every image that is known to have some or none."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        names = {entry["id"]: str(entry["name"]) for entry in tree["categories"]}
        found: dict[int, list[Box]] = {entry["id"]: [] for entry in tree["images"]}
        for entry in tree["annotations"]:
            x0, y0, x1, y1 = (float(value) for value in entry["xyxy"])
            found[entry["image_id"]].append(Box(names[entry["category_id"]], (x0, y0, x1, y1)))
        return {entry["file_name"]: tuple(found[entry["id"]]) for entry in tree["images"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: is no table of boxes of a dataset version ({error})") from None
