"""YOLO's layout: a ``data.yaml``, images below ``images/`` and boxes in ``labels/`` as shares of the image's sides."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from pangu_cv.data.readers.annotation import Notes, fitted, inside, numbers, read_utf8
from pangu_cv.data.readers.folders import describe, split_folders
from pangu_cv.data.sample import Box, Dataset, Sample, Split
from pangu_cv.errors import DataError, ImageError
from pangu_runtime.decode import peek
from pangu_runtime.images import find_images

_KEYS: dict[str, Split] = {"train": "train", "val": "val", "test": "test"}


def recognises(path: Path) -> bool:
    """Whether a file is a table of this kind, or a folder holds one or has images beside labels."""
    if path.is_file():
        return path.suffix.lower() in (".yaml", ".yml")
    return bool(_tables(path)) or ((path / "images").is_dir() and any((path / "labels").rglob("*.txt")))


def read(path: Path) -> Dataset:
    """Samples with their boxes; headers of images are read, since boxes are shares of their size.

    An empty file of labels says that nothing is in the image; where the file is lacking the image is unlabelled. Of
    outlines (polygons) the box around them is taken. Raises DataError on a malformed table or file of labels.
    """
    table = path if path.is_file() else next(iter(_tables(path)), None)
    root = table.parent if table else path
    if table is None and (root / "data.yaml").is_file():
        _tree(root / "data.yaml")  # tells why it is none: passed over, the classes would lose their names
    tree = _tree(table) if table else {}
    names = _names(tree, root)
    notes = Notes()
    folders = list(_folders(tree, root, table)) if table else _plain(root)
    samples = tuple(
        Sample(image, split=split, boxes=_boxes(image, names, root, notes))
        for folder, split in folders
        for image in find_images(folder)
    )
    if not samples:
        raise DataError(f"{path}: no image in the folders named by it; found {describe(root)}")
    return Dataset(root, "yolo", samples, notes.lines)


def _tables(path: Path) -> list[Path]:
    found = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
    return [table for table in found if _looks_right(table)][:1]


def _looks_right(table: Path) -> bool:
    try:
        tree = _tree(table)
    except DataError:
        return False
    return "names" in tree and bool(set(_KEYS) & set(tree))


def _tree(table: Path) -> dict[str, Any]:
    try:
        text = table.read_text(encoding="utf-8")
        aliased = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader))
        tree = {} if aliased else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{table}: cannot be read as YAML ({str(error).splitlines()[0]})") from None
    if aliased:  # aliases of aliases grow without bound, and no table needs them
        raise DataError(f"{table}: has YAML aliases (*name), which are not read; write out what they stand for")
    if not isinstance(tree, dict):
        raise DataError(f"{table}: names, train and val are needed; found {type(tree).__name__}")
    return tree


def _names(tree: dict[str, Any], root: Path) -> dict[int, str] | None:
    """Class names by number; None where nothing tells them."""
    names = tree.get("names")
    listed = root / "classes.txt"
    if names is None and listed.is_file():
        names = read_utf8(listed).split("\n")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if names is None:
        return None
    try:
        named = {int(number): _name(name) for number, name in names.items() if name is not None}
    except (AttributeError, TypeError, ValueError, OverflowError):
        found = str(names)[:80]
        raise DataError(f"{root}: 'names' must be a list of names, or names by number; found {found}") from None
    return {number: name for number, name in named.items() if name}


def _name(found: Any) -> str:
    if not isinstance(found, str | int | float):
        raise TypeError(type(found).__name__)
    return str(found).strip()


def _folders(tree: dict[str, Any], root: Path, table: Path) -> Iterator[tuple[Path, Split]]:
    # 'path' often names a folder of another machine; then the table's own folder is meant.
    base = root / str(tree.get("path") or ".")
    base = base if base.is_dir() and base.resolve().is_relative_to(root.resolve()) else root
    for key, split in _KEYS.items():
        value = tree.get(key)
        for name in value if isinstance(value, list) else [value] if value else []:
            found = [p for p in _candidates(str(name), base, root, table) if p.is_dir()]
            if not found:
                raise DataError(f"{table}: {key}: '{name}' is no folder below '{base}'; found {describe(root)}")
            yield found[0], split


def _candidates(name: str, base: Path, root: Path, table: Path) -> Sequence[Path]:
    """Some tools write ``../train/images`` for a folder that lies beside the table."""
    plain = name.replace("\\", "/")
    while plain.startswith("../"):
        plain = plain[3:]
    return [inside(place, plain, place=str(table)) for place in (base, root)]


def _plain(root: Path) -> list[tuple[Path, Split | None]]:
    splits = split_folders(root / "images")
    return list(splits.items()) if splits else [(root / "images", None)]


def _boxes(image: Path, names: dict[int, str] | None, root: Path, notes: Notes) -> tuple[Box, ...] | None:
    place = image.relative_to(root).as_posix()
    file = _label_file(image, root)
    if not file.is_file():
        notes.add("images have no file of labels and are taken as unlabelled (empty file: no object)", place)
        return None
    try:
        rows = [line.split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        header = peek(image)
    except ImageError:
        return None  # reported where images are read
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({error})") from None
    width, height = header.width_px, header.height_px
    found = [_box(row, names, width, height, f"{file}:{line}", notes) for line, row in enumerate(rows, start=1)]
    return fitted(found, width_px=width, height_px=height, place=place, notes=notes)


def _label_file(image: Path, root: Path) -> Path:
    parts = list(image.relative_to(root).parts)
    at = max((i for i, part in enumerate(parts[:-1]) if part == "images"), default=None)
    if at is None:
        return image.with_suffix(".txt")
    parts[at] = "labels"
    return root.joinpath(*parts).with_suffix(".txt")


def _box(
    row: list[str], names: dict[int, str] | None, width: int, height: int, place: str, notes: Notes
) -> tuple[str, tuple[float, ...]]:
    number, *shares = row
    label = names.get(_whole(number)) if names is not None else number
    if label is None:
        raise DataError(f"{place}: class '{number}' is not among {names}")
    if len(shares) >= 6 and len(shares) % 2 == 0:
        notes.add("outlines were replaced by the box around them", place)
        points = numbers(shares, count=len(shares), place=place)
        xs, ys = points[::2], points[1::2]
        return label, (min(xs) * width, min(ys) * height, max(xs) * width, max(ys) * height)
    x, y, w, h = numbers(shares, count=4, place=place)
    return label, ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else -1
