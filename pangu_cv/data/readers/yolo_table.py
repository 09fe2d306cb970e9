"""YOLO's ``data.yaml``: the names of its classes, the images of its splits, the key points of its poses."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from pangu_cv.data.readers.annotation import Notes, inside, read_utf8
from pangu_cv.data.readers.folders import SPLIT_FOLDERS, describe
from pangu_cv.data.sample import Split
from pangu_cv.errors import DataError
from pangu_runtime.images import find_images

_NULL = "tag:yaml.org,2002:null"


class _AsWritten(yaml.SafeLoader):
    """Plain values as they are written: a class may be called ``no``, ``1.0`` or ``2024-13-45``."""

    yaml_implicit_resolvers = {  # noqa: RUF012, as the base declares it
        first: [(tag, pattern) for tag, pattern in resolvers if tag == _NULL]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def table_in(path: Path) -> Path | None:
    """The first table of a folder that tells names and a split."""
    found = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
    return next((table for table in found if _looks_right(table)), None)


def load(table: Path) -> dict[str, Any]:
    """What it says, all values as text. Raises DataError."""
    try:
        text = table.read_text(encoding="utf-8")
        aliased = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_AsWritten))
        tree = {} if aliased else yaml.load(text, Loader=_AsWritten)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{table}: cannot be read as YAML ({str(error).splitlines()[0]})") from None
    if aliased:  # aliases of aliases grow without bound, and no table needs them
        raise DataError(f"{table}: has YAML aliases (*name), which are not read; write out what they stand for")
    if not isinstance(tree, dict):
        raise DataError(f"{table}: names, train and val are needed; found {type(tree).__name__}")
    return tree


def class_names(tree: dict[str, Any], root: Path) -> dict[int, str] | None:
    """Class names by number; None where neither the table nor a ``classes.txt`` tells them."""
    names = tree.get("names")
    listed = next((file for folder in (root, root / "labels") if (file := folder / "classes.txt").is_file()), None)
    if names is None and listed is not None:
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


def point_values(tree: dict[str, Any], table: Path) -> int | None:
    """How many values of key points follow the box of each object; None where the table is not of poses."""
    shape = tree.get("kpt_shape")
    if shape is None:
        return None
    try:
        points, values = (int(number) for number in shape)
    except (TypeError, ValueError, OverflowError):
        points = values = 0
    if points < 1 or values not in (2, 3):
        raise DataError(f"{table}: kpt_shape: {str(shape)[:80]} found; allowed are a number of points, and 2 or 3")
    return points * values


def split_images(tree: dict[str, Any], table: Path, notes: Notes) -> Iterator[tuple[Path, Split]]:
    """Every image of the folders, and of the lists of images, that the table names. Raises DataError."""
    root = table.parent
    # 'path' often names a folder of another machine; then the table's own folder is meant.
    base = root / str(tree.get("path") or ".")
    base = base if base.is_dir() and base.resolve().is_relative_to(root.resolve()) else root
    for key, split in SPLIT_FOLDERS.items():
        value = tree.get(key)
        for name in value if isinstance(value, list) else [value] if value else []:
            for image in _images(str(name), key, (base, root), table, notes):
                yield image, split


def _images(name: str, key: str, places: Sequence[Path], table: Path, notes: Notes) -> Sequence[Path]:
    candidates = _candidates(name, places, table)
    if folder := next((p for p in candidates if p.is_dir()), None):
        return find_images(folder)
    if file := next((p for p in candidates if p.suffix.lower() == ".txt" and p.is_file()), None):
        return list(_listed(file, places, notes))
    raise DataError(
        f"{table}: {key}: '{name}' is no folder below '{places[0]}', and no list of images (.txt); "
        f"found {describe(table.parent)}"
    )


def _listed(file: Path, places: Sequence[Path], notes: Notes) -> Iterator[Path]:
    """Names begin at the list or where folders begin; some tools put ``data/`` before them, a folder of their own."""
    for name in filter(None, map(str.strip, read_utf8(file).split("\n"))):
        spelt = dict.fromkeys((name, name.removeprefix("data/")))
        candidates = (p for one in spelt for p in _candidates(one, (file.parent, *places), file))
        if found := next((p for p in candidates if p.is_file()), None):
            yield found
        else:
            notes.add(f"images listed in {file.name} do not exist and were left out", name)


def _candidates(name: str, places: Sequence[Path], file: Path) -> list[Path]:
    """Some tools write ``../train/images`` for a folder that lies beside the table."""
    plain = name.replace("\\", "/")
    for place in places:  # Darknet's lists name files from the top
        if Path(plain).is_relative_to(place.resolve()):
            return [inside(place, Path(plain).relative_to(place.resolve()).as_posix(), place=str(file))]
    while plain.startswith("../"):
        plain = plain[3:]
    return [inside(place, plain, place=str(file)) for place in dict.fromkeys(places)]


def _looks_right(table: Path) -> bool:
    try:
        tree = load(table)
    except DataError:
        return False
    return "names" in tree and not tree.keys().isdisjoint(SPLIT_FOLDERS)


def _name(found: Any) -> str:
    if not isinstance(found, str):
        raise TypeError(type(found).__name__)
    return found.strip()
