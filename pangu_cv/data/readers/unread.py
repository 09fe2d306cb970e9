"""Exports of labelling tools that no reader reads: told, so that their folders are not taken for classes."""

import os
from pathlib import Path

from pangu_cv.data.readers.folders import IMAGE_PARTS, LABEL_PARTS, split_folders, subfolders
from pangu_runtime.images import is_image_name

_TABLES = ("obj.names", "obj.data", "annotations.xml")  # Darknet's YOLO, CVAT's own
_LABEL_SUFFIXES = (".txt", ".xml")
_FILES_OPENED = 50  # per folder
_HEAD_BYTES = 4096


def boxes_in(path: Path) -> str | None:
    """Where a tool left boxes: a name below ``path``, looked for there, in its folders and in those of its splits.

    None where there are none. Folders are listed without those below them; of few files the first bytes are read.
    """
    tables = (path / name for name in _TABLES if (path / name).is_file())
    folders = (path, *subfolders(path), *(below for split in split_folders(path) for below in subfolders(split)))
    found = next(tables, None) or next(filter(None, map(_boxes_beside, folders)), None)
    return found.relative_to(path).as_posix() if found else None


def _boxes_beside(folder: Path) -> Path | None:
    """A file of boxes beside the image of the same name, or a folder of labels beside one of images."""
    try:
        names = os.listdir(folder)  # noqa: PTH208, 1 M names
    except OSError:  # told where images are listed
        return None
    if any(name.lower() in IMAGE_PARTS for name in names):
        labels = (folder / name for name in sorted(names) if name.lower() in LABEL_PARTS)
        if found := next((part for part in labels if any(part.glob("*"))), None):
            return found
    files = sorted(name for name in names if name.lower().endswith(_LABEL_SUFFIXES))
    stems = {name.rpartition(".")[0] for name in names if is_image_name(name)} if files else set()
    beside = [folder / name for name in files if name.rpartition(".")[0] in stems]
    return next(filter(_tells_boxes, beside[:_FILES_OPENED]), None)


def _tells_boxes(file: Path) -> bool:
    """Captions and measurements lie beside images too; boxes are told by what a tool begins its file with."""
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD_BYTES).decode("utf-8-sig", errors="replace")
    except OSError:
        return False
    match file.suffix.lower():
        case ".xml":
            return "<annotation" in head
        case _:
            return _is_yolo_row(head.strip().partition("\n")[0])


def _is_yolo_row(line: str) -> bool:
    number, *shares = line.split() or [""]
    try:
        return number.isdigit() and len(shares) >= 4 and all(0 <= float(share) <= 1 for share in shares[:4])
    except ValueError:
        return False
