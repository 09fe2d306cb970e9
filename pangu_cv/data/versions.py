"""Versions of a dataset: ``v0001/``, ``v0002/`` …, each whole, each saying what it was made from and what changed.

A version holds labels, never images: those are referenced where they are. ``version.json`` beside the tables has the
parent with its digest, the folder of the images, the SHA-256 of every file and the changes, in words and one by one.
"""

import getpass
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pangu_cv.data.changes import Change, in_words
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.data.version_tables import BOXES, LABELS, Row, read_tables, write_tables
from pangu_cv.errors import DataError, ImageError
from pangu_runtime.decode import DEFAULT_SPEC, peek

FORMAT = "pangu_cv dataset version 1"
MANIFEST = "version.json"
_NAME = re.compile(r"v(\d{4,})")
_PROBES = 64  # rows by which the folder of the images is chosen
_MANY = 10_000


@dataclass(frozen=True)
class Version:
    """A version as it was read. ``dataset`` has the images that are there, ``missing`` those that are gone.

    ``changes`` lead from ``parent`` (the name of another version beside it; None: the source itself) to it.
    """

    folder: Path
    digest: str
    parent: str | None
    dataset: Dataset
    missing: tuple[Sample, ...]
    changes: tuple[Change, ...]
    note: str

    @property
    def name(self) -> str:
        """``v0001``."""
        return self.folder.name


def folder_for(source: Path) -> Path:
    """Where versions made of ``source`` belong: beside the one that it is, else a folder named after the dataset."""
    if recognises(source):
        return source.parent if (source / MANIFEST).is_file() else source
    return Path(f"{source.resolve().stem}_versions")


def recognises(path: Path) -> bool:
    """Whether it is a version, or a folder of versions."""
    return (path / MANIFEST).is_file() or bool(path.is_dir() and _numbers(path))


def read(path: Path, *, root: Path | None = None) -> Dataset:
    """The images of a version that are there, or of the newest where ``path`` holds several. Raises DataError."""
    version = read_version(newest(path) or path, images=root)
    if not len(version.dataset):
        raise DataError(
            f"{version.folder}: none of its {len(version.missing)} images is below '{version.dataset.root}'; "
            "name the folder they moved to as root"
        )
    return version.dataset


def newest(root: Path) -> Path | None:
    """The version of the highest number in a folder of versions, None where there is none."""
    numbers = _numbers(root) if root.is_dir() else []
    return root / _name(max(numbers)) if numbers else None


def read_version(folder: Path, *, images: Path | None = None) -> Version:
    """Read one version; ``images`` is the folder of the images where they have moved.

    Raises DataError where a file is not as it was written: versions are made, not edited.
    """
    manifest = manifest_of(folder)
    _require_unaltered(folder, manifest)
    rows = read_tables(folder)
    base = images or _place(folder, manifest, rows)
    samples = [row.sample(base, folder) for row in rows]
    there = tuple(sample for sample in samples if sample.path.is_file())
    missing = tuple(sample for sample in samples if not sample.path.is_file())
    notes = [f"version {folder.name} of {manifest['source']['root']}"]
    if missing:
        notes.append(f"{len(missing)} images are gone since and were left out; first {missing[0].path.name}")
    dataset = Dataset(base, manifest["layout"], there, tuple(notes), tuple(manifest["mask_classes"]))
    changes = tuple(Change(**change) for change in manifest["changes"])
    parent = manifest["parent"]["name"] if manifest["parent"] else None
    return Version(folder, manifest["digest"], parent, dataset, missing, changes, manifest["note"])


def write_version(
    root: Path,
    dataset: Dataset,
    *,
    missing: Sequence[Sample] = (),
    parent: Version | None = None,
    changes: Sequence[Change] = (),
    note: str = "",
) -> Version:
    """Add a version of ``dataset`` to the folder ``root`` and read it back.

    ``missing`` are samples whose image is gone: they stay in the tables. Masks below the dataset's root are referenced,
    others copied. Two writers at once make two versions. Raises DataError where ``require_kin`` does.
    """
    if not len(dataset) and not missing:
        raise DataError(f"{root}: a version without an image would hold nothing")
    require_kin(root, dataset, missing=missing, parent=parent)
    base = _base(dataset, missing)
    root.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".version-", dir=root))
    staging.chmod(0o755)
    try:
        rows = [_row(at, sample, base, staging) for at, sample in enumerate((*dataset, *missing))]
        _require_once(rows)
        write_tables(rows, staging, size_of=lambda row: _size(base / row.file))
        about = _about(dataset, rows, base, root, missing=missing, parent=parent, changes=changes, note=note)
        about["files"] = _sums(staging)
        about["digest"] = _digest(about)
        # ensure_ascii: names that are no UTF-8 stay readable as escapes
        (staging / MANIFEST).write_text(json.dumps(about, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        folder = _take_next(staging, root)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return read_version(folder, images=base)


def require_kin(root: Path, dataset: Dataset, *, missing: Sequence[Sample] = (), parent: Version | None = None) -> None:
    """Raises DataError where the newest version in ``root`` is of other images: the newest alone is read of a folder,
    so that versions of two datasets in one would hide each other."""
    last = newest(root)
    if last is None or (parent is not None and is_beside(parent, root)):
        return
    before = read_version(last)
    if not _share_images(before, [sample.path for sample in (*dataset, *missing)], _base(dataset, missing)):
        raise DataError(
            f"{root}: its newest version, {before.name}, is of images in '{before.dataset.root}', and none of those in "
            f"'{dataset.root}' is among them. Of a folder of versions the newest alone is read: give this dataset "
            "another folder (--out)"
        )


def is_beside(version: Version, root: Path) -> bool:
    """Whether it lies in the folder of versions ``root``."""
    return version.folder.resolve().parent == root.resolve()


def _share_images(before: Version, paths: Sequence[Path], base: Path) -> bool:
    """By path, else by content; where all images have moved, names are what is left to compare."""
    theirs = {_absolute(sample.path) for sample in before.dataset}
    gone = {_below(sample.path, before.dataset.root) for sample in before.missing}
    ours = {_absolute(path) for path in paths}
    if theirs & ours or (not theirs and gone & {_below(path, base) for path in ours}):
        return True
    theirs_of, ours_of = _by_size(theirs), _by_size(path for path in ours if path.is_file())
    for size in theirs_of.keys() & ours_of.keys():
        sums = {_sum(path) for path in theirs_of[size]}
        if any(_sum(path) in sums for path in ours_of[size]):
            return True
    return False


def _by_size(paths: Iterable[Path]) -> dict[int, list[Path]]:
    found: dict[int, list[Path]] = {}
    for path in paths:
        found.setdefault(path.stat().st_size, []).append(path)
    return found


def labels_of(samples: Iterable[Sample]) -> dict[Path, str | None]:
    """Each image's label, by its absolute path."""
    return {_absolute(sample.path): sample.label for sample in samples}


def same_content(one: Dataset, other: Dataset) -> bool:
    """Whether two datasets know the same of the same images, whatever the layout."""
    return _content(one) == _content(other)


def content_digest(dataset: Dataset) -> str:
    """SHA-256 of what a dataset knows of its images; pixels are not read."""
    return hashlib.sha256(json.dumps(_content(dataset)).encode()).hexdigest()


def _content(dataset: Dataset) -> list[Any]:
    base = _base(dataset, ())
    facts = []
    for sample in dataset:
        one = asdict(sample) | {"path": _below(sample.path, base), "mask": str(sample.mask and _absolute(sample.mask))}
        facts.append(one)
    return [dataset.mask_classes, sorted(facts, key=lambda one: str(one["path"]))]


def _about(
    dataset: Dataset,
    rows: Sequence[Row],
    base: Path,
    root: Path,
    *,
    missing: Sequence[Sample],
    parent: Version | None,
    changes: Sequence[Change],
    note: str,
) -> dict[str, Any]:
    """The manifest without its sums."""
    splits = Counter(row.split or "none" for row in rows)
    labels = Counter(row.label for row in rows if row.label is not None)
    boxed = Counter(box.label for row in rows for box in row.boxes or ())
    return {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "by": writer(),
        "note": note,
        "parent": {"name": parent.name, "digest": parent.digest} if parent else None,
        "source": {"root": str(base), "layout": dataset.layout, "digest": content_digest(dataset)},
        "images": {"root": str(base), "relative": os.path.relpath(base, root / _name(1))},
        "layout": dataset.layout,
        "mask_classes": list(dataset.mask_classes),
        "counts": {
            "images": len(rows),
            "missing": len(missing),
            "splits": dict(sorted(splits.items())),
            "labels": dict(sorted(labels.items())),
            "boxes": dict(sorted(boxed.items())),
        },
        "missing": [_below(sample.path, base) for sample in missing],
        "summary": list(in_words(changes)),
        "changes": [change.to_json() for change in changes],
    }


def writer() -> str:
    """Who runs this, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return ""


def _take_next(staging: Path, root: Path) -> Path:
    """Move into place under the first free number: a folder that is there and not empty is never replaced."""
    number = max(_numbers(root), default=0) + 1
    for candidate in range(number, number + _MANY):
        target = root / _name(candidate)
        if target.exists():
            continue
        try:
            staging.rename(target)
            return target
        except OSError:  # another writer was faster
            if not target.exists():
                raise
    raise DataError(f"{root}: no free number for a version after {_name(number)}")


def _row(at: int, sample: Sample, base: Path, folder: Path) -> Row:
    mask = own = None
    if sample.mask is not None and _absolute(sample.mask).is_relative_to(base):
        mask = _below(sample.mask, base)
    elif sample.mask is not None:
        own = f"masks/{at:06d}{sample.mask.suffix}"
        (folder / "masks").mkdir(exist_ok=True)
        shutil.copyfile(sample.mask, folder / own)
    name = _below(sample.path, base)
    return Row(name, sample.label, sample.split, sample.group, sample.caption, mask, own, sample.boxes)


def _base(dataset: Dataset, missing: Sequence[Sample]) -> Path:
    """The folder that names start from: the dataset's root, or what all images have in common."""
    root = _absolute(dataset.root)
    paths = [_absolute(sample.path) for sample in (*dataset, *missing)]
    if all(path.is_relative_to(root) for path in paths):
        return root
    return Path(os.path.commonpath([root, *(path.parent for path in paths)]))


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100, links stay as they are


def _below(path: Path, base: Path) -> str:
    return _absolute(path).relative_to(base).as_posix()


def _size(path: Path) -> tuple[int, int] | None:
    try:
        header = peek(path, spec=DEFAULT_SPEC)
    except ImageError:
        return None
    return header.width_px, header.height_px


def _require_once(rows: Sequence[Row]) -> None:
    twice = [name for name, count in Counter(row.file for row in rows).items() if count > 1]
    if twice:
        raise DataError(
            f"{len(twice)} images are in the dataset more than once, first '{twice[0]}'; keep one entry each"
        )


def _place(folder: Path, manifest: dict[str, Any], rows: Sequence[Row]) -> Path:
    """Where the images are: where they were, or where they are from here after the tree has moved as a whole."""
    places = (Path(manifest["images"]["root"]), folder / manifest["images"]["relative"])
    step = max(1, len(rows) // _PROBES)
    return max(map(_absolute, places), key=lambda base: sum((base / row.file).is_file() for row in rows[::step]))


def manifest_of(folder: Path) -> dict[str, Any]:
    """``version.json`` as it was written. Raises DataError where it is none of ours."""
    path = folder / MANIFEST
    needed = {
        "format",
        "created",
        "parent",
        "source",
        "images",
        "layout",
        "mask_classes",
        "changes",
        "files",
        "digest",
        "note",
    }
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(manifest, dict) or not needed <= set(manifest) or manifest["format"] != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise DataError(f"{path}: is no dataset version of the format '{FORMAT}' (found {found!r})")
    return manifest


def _require_unaltered(folder: Path, manifest: dict[str, Any]) -> None:
    files = manifest["files"]
    found = {name: digest for name, digest in _sums(folder).items() if name in files}
    changed = sorted(name for name in files if found.get(name) != files[name])
    if _digest(manifest) != manifest["digest"]:
        changed.append(MANIFEST)
    if changed:
        raise DataError(
            f"{folder}: {', '.join(changed[:4])} is not as it was written (edited by hand, or damaged). Versions are "
            f"made, not edited: read '{LABELS}' itself with data.root={manifest['images']['root']} to go on from the "
            "edited table, or take the parent"
        )


def _sums(folder: Path) -> dict[str, str]:
    paths = [folder / LABELS, folder / BOXES, *sorted((folder / "masks").glob("*"))]
    return {path.relative_to(folder).as_posix(): _sum(path) for path in paths if path.is_file()}


def _sum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(manifest: dict[str, Any]) -> str:
    facts = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _numbers(root: Path) -> list[int]:
    named = ((entry, _NAME.fullmatch(entry.name)) for entry in root.iterdir())
    return [int(match[1]) for entry, match in named if match and (entry / MANIFEST).is_file()]


def _name(number: int) -> str:
    return f"v{number:04d}"
