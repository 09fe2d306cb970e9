"""A table ``file,label`` with optional ``split,mask,caption,group``; other columns are kept out.

UTF-8 with or without BOM, comma, semicolon or tab, any line ends. A split is train (or pool), val (valid, validation)
or test, or empty. File names start from the explicit root, else the table's folder, else that folder's parent.
"""

import csv
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pangu_cv.data.sample import Dataset, Sample, Split
from pangu_cv.errors import DataError

REQUIRED = ("file", "label")
OPTIONAL = ("split", "mask", "caption", "group")
SPLITS: dict[str, Split | None] = {
    "train": "train",
    "pool": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "": None,
}
_PROBES = 64  # rows by which the folder that file names start from is chosen


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    file: str
    cells: dict[str, str]

    def get(self, column: str) -> str | None:
        return self.cells.get(column) or None


def is_table(path: Path) -> bool:
    """Whether the file's name ends in .csv or .tsv and its first line names the columns file and label."""
    if path.suffix.lower() not in (".csv", ".tsv"):
        return False
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline(65536)
    except (OSError, UnicodeDecodeError):
        return False
    return set(REQUIRED) <= set(_header(first, delimiter_of(first)))


def tables_in(folder: Path) -> tuple[Path, ...]:
    """The tables directly in a folder, by name."""
    return tuple(sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and is_table(p)))


def read(table: Path, *, root: Path | None = None) -> Dataset:
    """The table's samples in its order; a row given twice is kept once.

    Raises DataError, naming lines: an unknown split, one file with two labels or splits, a file that does not exist,
    a path that leaves the root.
    """
    rows = _rows(table)
    if not rows:
        raise DataError(f"{table}: has a header but no row")
    base = _choose_root(table, rows, root)
    kept, repeats = _without_repeats(table, rows)
    _require_files(table, base, kept, root)
    samples = tuple(
        Sample(
            base / row.file,
            label=row.get("label"),
            split=_split(table, row),
            mask=base / row.cells["mask"] if row.get("mask") else None,
            caption=row.get("caption"),
            group=row.get("group"),
        )
        for row in kept
    )
    bare = sum(sample.label is None for sample in samples)
    notes = [f"{repeats} rows repeat an earlier one: kept once"] * bool(repeats)
    notes += [f"{bare} rows have no label"] * bool(bare)
    return Dataset(base, "csv", samples, tuple(notes))


def _rows(table: Path) -> list[_Row]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            delimiter = delimiter_of(first)
            header = _header(first, delimiter)
            lacking = [column for column in REQUIRED if column not in header]
            if lacking:
                raise DataError(
                    f"{table}:1: no column {' and '.join(lacking)}; found {', '.join(header)}. "
                    f"Needed are {','.join(REQUIRED)}, allowed also {','.join(OPTIONAL)}"
                )
            return list(_parse(table, stream, delimiter, header))
    except UnicodeDecodeError as error:
        raise DataError(
            f"{table}: is not UTF-8 ({error.reason} at byte {error.start}); save it as 'CSV UTF-8'"
        ) from error
    except csv.Error as error:
        raise DataError(f"{table}: cannot be read as a table ({error}); save it as 'CSV UTF-8'") from error


def _parse(table: Path, lines: Iterable[str], delimiter: str, header: list[str]) -> Iterator[_Row]:
    wanted = {column: header.index(column) for column in (*REQUIRED, *OPTIONAL) if column in header}
    reader = csv.reader(lines, delimiter=delimiter)
    last = 1
    for cells in reader:
        line, last = last + 1, reader.line_num + 1
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
            raise DataError(
                f"{table}:{line}: {len(cells)} cells, the header has {len(header)}; "
                f"text that holds a {delimiter!r} needs quotes"
            )
        row = {column: cells[at].strip() for column, at in wanted.items()}
        for column in ("file", "mask"):
            if row.get(column):
                row[column] = _inside(table, line, row[column])
        if not row["file"]:
            raise DataError(f"{table}:{line}: the cell 'file' is empty; fill or remove the row")
        yield _Row(line, row["file"], row)


def delimiter_of(first: str) -> str:
    """Comma, semicolon or tab: of a table's first line, as spreadsheets save it."""
    return max(",;\t", key=first.count)


def _header(first: str, delimiter: str) -> list[str]:
    return [cell.strip().lower() for cell in next(csv.reader([first], delimiter=delimiter), [])]


def _inside(table: Path, line: int, name: str) -> str:
    """The normalised relative path; one that leaves its root could read any file of the machine."""
    clean = posixpath.normpath(name.replace("\\", "/"))
    if PurePosixPath(clean).is_absolute() or clean == ".." or clean.startswith("../") or clean[1:2] == ":":
        raise DataError(
            f"{table}:{line}: '{name}' leaves the folder; name files relative to it, or pass its parent as root"
        )
    return clean


def _choose_root(table: Path, rows: list[_Row], root: Path | None) -> Path:
    if root is not None:
        return root
    step = max(1, len(rows) // _PROBES)
    candidates = (table.parent, table.parent.parent)
    return max(candidates, key=lambda base: sum((base / row.file).is_file() for row in rows[::step]))


def _split(table: Path, row: _Row) -> Split | None:
    found = row.cells.get("split", "").lower()
    if found not in SPLITS:
        raise DataError(
            f"{table}:{row.line}: split '{found}' is unknown; allowed are {', '.join(s for s in SPLITS if s)}, or none"
        )
    return SPLITS[found]


def _without_repeats(table: Path, rows: list[_Row]) -> tuple[list[_Row], int]:
    first: dict[str, _Row] = {}
    for row in rows:
        earlier = first.setdefault(row.file, row)
        for column, value, other in (
            ("label", row.cells["label"], earlier.cells["label"]),
            ("split", _split(table, row), _split(table, earlier)),
            ("group", row.get("group"), earlier.get("group")),
            ("mask", row.get("mask"), earlier.get("mask")),
        ):
            if value != other:
                raise DataError(
                    f"{table}:{row.line}: '{row.file}' has the {column} '{value}', "
                    f"but '{other}' on line {earlier.line}; keep one of them"
                )
    return list(first.values()), len(rows) - len(first)


def _require_files(table: Path, base: Path, rows: list[_Row], root: Path | None) -> None:
    named = [(row.line, name) for row in rows for name in (row.file, row.get("mask")) if name]
    missing = [(line, name) for line, name in named if not (base / name).is_file()]
    if missing:
        line, name = missing[0]
        looked = [base] if root is not None else [table.parent, table.parent.parent]
        raise DataError(
            f"{table}:{line}: '{name}' does not exist ({len(missing)} of {len(named)} files are missing); looked in "
            f"{' and '.join(str(p) for p in looked)}. Pass the folder that the names start from as root"
        )
