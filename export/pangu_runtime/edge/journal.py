"""What has been decided, on disk: JSON lines that only ever grow, each image in them exactly once.

The lines are the truth. A line is written whole and synced before the next image is begun; one that power loss has torn
is cut off at the next start, and its image is decided again; what a full disk took of one, before the next is written.
Beside them lies an index (SQLite) that tells in constant memory whether an image is in the lines; it may be
lost, late or damaged, and is made good from the lines at the next start.
"""

import json
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pangu_runtime.edge.durable import sync_folder
from pangu_runtime.errors import DataError

KEY = "key"
_INDEX = "index.sqlite"
_VERSION = 3  # of the index's tables
_LINES = re.compile(r"results-([0-9]{5,})\.jsonl")
_Row = tuple[str, str | None, bool]


class Journal:
    """``results-00001.jsonl`` and so on in a folder; one process at a time.

    Raises DataError where the index turns out to be damaged, and OSError where the disk does not let it be read.
    """

    def __init__(self, folder: Path, *, max_file_bytes: int = 64 * 2**20) -> None:
        """Raises DataError where another process holds the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._max_file_bytes = folder, max_file_bytes
        self._lock = _locked(folder / "lock")
        self._number = max((_number_of(file) for file in self.files), default=1)
        self._late: dict[str, _Row] = {}  # in the lines, and not yet in the index
        try:
            self._mend_lines()
            with _index_of(folder):
                self._open_index()
        except BaseException:
            self._lock.close()
            raise
        self._stream = self._current.open("ab", buffering=0)
        self._whole = self._stream.seek(0, os.SEEK_END)  # bytes of whole lines

    @property
    def files(self) -> list[Path]:
        """All files of lines, the oldest first; what people name alike (results-backup.jsonl) is none."""
        return sorted(filter(_number_of, self.folder.glob("results-*.jsonl")), key=_number_of)

    @property
    def _current(self) -> Path:
        return self.folder / _name_of(self._number)

    def __contains__(self, key: str) -> bool:
        return self._found(key) is not None

    def sha256(self, key: str) -> str | None:
        """Of the image that was decided under this key; None where it was not read, or is not there."""
        row = self._found(key)
        return row[1] if row else None

    def has_error(self, key: str) -> bool:
        """Whether the image's line tells an error instead of a decision."""
        row = self._found(key)
        return bool(row and row[2])

    def _found(self, key: str) -> _Row | None:
        key = _storable(key)
        if key in self._late:
            return self._late[key]
        with _index_of(self.folder):
            row: _Row | None = self._index.execute("SELECT * FROM seen WHERE key = ?", (key,)).fetchone()
        return row

    def __len__(self) -> int:
        with _index_of(self.folder):
            [(count,)] = self._index.execute("SELECT COUNT(*) FROM seen").fetchall()
        return int(count) + len(self._late)

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append records, each with its ``key``; when this returns they survive power loss.

        Raises OSError where the disk takes no more: then none of them counts, and they may be added again.
        """
        text = "".join(json.dumps(record) + "\n" for record in records).encode()
        if os.fstat(self._stream.fileno()).st_size != self._whole:
            os.ftruncate(self._stream.fileno(), self._whole)
        if self._whole and self._whole + len(text) > self._max_file_bytes:
            self._turn()
        descriptor = self._stream.fileno()
        _write_all(descriptor, text)
        os.fsync(descriptor)
        self._whole += len(text)
        self._late |= {row[0]: row for row in map(_row, records)}
        try:
            with _index_of(self.folder):
                self._note(list(self._late.values()), file=self._current.name, end=self._whole)
        except OSError:  # the lines are the truth; the index is caught up with the next one
            return
        self._late = {}

    def close(self) -> None:
        """Let others in."""
        self._stream.close()
        self._index.close()
        self._lock.close()

    def _turn(self) -> None:
        following = self.folder / _name_of(self._number + 1)
        following.touch()  # while the disk may refuse it, the file before stays the current one
        sync_folder(self.folder)
        self._stream.close()
        self._number += 1
        self._stream = following.open("ab", buffering=0)
        self._whole = 0

    def _mend_lines(self) -> None:
        """No torn line, and one file at least."""
        current = self._current
        if current.exists():
            _cut_torn_line(current)
        else:
            current.touch()
            sync_folder(self.folder)

    def _open_index(self) -> None:
        """With all that the lines tell; a damaged one is made again from them."""
        try:
            self._catch_up()
        except sqlite3.DatabaseError:
            for damaged in self.folder.glob(f"{_INDEX}*"):
                damaged.unlink()
            self._catch_up()

    def _catch_up(self) -> None:
        self._index = sqlite3.connect(self.folder / _INDEX)
        try:
            _make_tables(self._index)
            self._read_lines()
        except BaseException:
            self._index.close()  # before its files are deleted
            raise

    def _read_lines(self) -> None:
        """Into the index, from where it ends."""
        ends = dict(self._index.execute("SELECT file, end FROM read").fetchall())
        sizes = {file.name: file.stat().st_size for file in self.files}
        if any(end > sizes.get(name, -1) for name, end in ends.items()):  # lines were taken away: they are the truth
            self._index.executescript("DELETE FROM seen; DELETE FROM read;")
            ends = {}
        for file in self.files:
            for rows, end in _rows_from(file, ends.get(file.name, 0)):
                self._note(rows, file=file.name, end=end)

    def _note(self, rows: Sequence[_Row], *, file: str, end: int) -> None:
        with self._index:
            self._index.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", rows)
            self._index.execute("INSERT OR REPLACE INTO read VALUES (?, ?)", (file, end))


@contextmanager
def _index_of(folder: Path) -> Iterator[None]:
    """What SQLite says of a full or failing disk is said as others say it; damage does not pass by waiting."""
    try:
        yield
    except sqlite3.Error as error:
        told = f"{folder / _INDEX}: {error}"
        if type(error) is sqlite3.DatabaseError:  # the others are below it
            raise DataError(f"{told}; start again, and it is made again from the lines") from None
        raise OSError(told) from None


def _make_tables(index: sqlite3.Connection) -> None:
    """Where there are none of this version. Raises sqlite3.DatabaseError where something is damaged."""
    index.execute("PRAGMA journal_mode = WAL")
    index.execute("PRAGMA synchronous = NORMAL")  # with WAL it syncs now and then, and power loss damages nothing
    [(version,)] = index.execute("PRAGMA user_version").fetchall()
    if version != _VERSION:
        index.executescript(f"DROP TABLE IF EXISTS seen; DROP TABLE IF EXISTS read; PRAGMA user_version = {_VERSION};")
    index.execute(
        "CREATE TABLE IF NOT EXISTS seen (key TEXT PRIMARY KEY, sha256 TEXT, has_error INTEGER) WITHOUT ROWID"
    )
    index.execute("CREATE TABLE IF NOT EXISTS read (file TEXT PRIMARY KEY, end INTEGER)")
    [(told,)] = index.execute("PRAGMA quick_check(1)").fetchall()
    if told != "ok":
        raise sqlite3.DatabaseError(told)


def _row(record: Mapping[str, Any]) -> _Row:
    sha256 = record.get("sha256")
    return _storable(str(record[KEY])), None if sha256 is None else str(sha256), "error" in record


def _storable(key: str) -> str:
    """Names of files need not be UTF-8; SQLite's text must."""
    return key.encode("utf-8", "backslashreplace").decode()


def _rows_from(file: Path, start: int) -> Iterator[tuple[list[_Row], int]]:
    """Of the whole lines from a place on, some thousands at a time, and where the next line begins."""
    with file.open("rb") as stream:
        stream.seek(start)
        rows: list[_Row] = []
        while line := stream.readline():
            try:
                rows.append(_row(json.loads(line)))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise DataError(f"{file}: byte {stream.tell() - len(line)} begins a line that is no record") from None
            if len(rows) == 10_000:
                yield rows, stream.tell()
                rows = []
        if rows:
            yield rows, stream.tell()


def _cut_torn_line(file: Path) -> None:
    with file.open("rb+") as stream:
        size = stream.seek(0, os.SEEK_END)
        while size and not _ends_line(stream, size):
            size -= 1
        stream.truncate(size)
        os.fsync(stream.fileno())


def _ends_line(stream: Any, size: int) -> bool:
    stream.seek(size - 1)
    return bool(stream.read(1) == b"\n")


def _write_all(descriptor: int, text: bytes) -> None:
    view = memoryview(text)
    while view:
        view = view[os.write(descriptor, view) :]


def _locked(path: Path) -> Any:
    stream = path.open("w")
    try:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows: two watchers on one folder are the user's to avoid
        pass
    except OSError:
        stream.close()
        raise DataError(f"{path.parent}: another watcher writes here; give each its own --out") from None
    return stream


def _name_of(number: int) -> str:
    return f"results-{number:05d}.jsonl"


def _number_of(file: Path) -> int:
    """From 1; 0 where it is no file of lines."""
    named = _LINES.fullmatch(file.name)
    return int(named[1]) if named else 0
