"""What has been decided, on disk: JSON lines that only ever grow, each image in them exactly once.

The lines are the truth. A line is written whole and synced before the next image is begun; one that power loss has torn
is cut off at the next start, and its image is decided again. Beside them lies an index (SQLite) that tells in constant
memory whether an image is in the lines; it may be lost or late, and is caught up from the lines.
"""

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pangu_runtime.errors import DataError

KEY = "key"


class Journal:
    """``results-00001.jsonl`` and so on in a folder; one process at a time."""

    def __init__(self, folder: Path, *, max_file_bytes: int = 64 * 2**20) -> None:
        """Raises DataError where another process holds the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._max_file_bytes = folder, max_file_bytes
        self._lock = _locked(folder / "lock")
        self._index = _opened(folder / "index.sqlite")
        self._number = max((_number_of(file) for file in self.files), default=1)
        try:
            self._repair()
        except BaseException:
            self._index.close()
            self._lock.close()
            raise
        self._stream = self._current.open("ab", buffering=0)

    @property
    def files(self) -> list[Path]:
        """All files of lines, the oldest first."""
        return sorted(self.folder.glob("results-*.jsonl"), key=_number_of)

    @property
    def _current(self) -> Path:
        return self.folder / f"results-{self._number:05d}.jsonl"

    def __contains__(self, key: str) -> bool:
        return self._index.execute("SELECT 1 FROM seen WHERE key = ?", (key,)).fetchone() is not None

    def __len__(self) -> int:
        [(count,)] = self._index.execute("SELECT COUNT(*) FROM seen").fetchall()
        return int(count)

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append records, each with its ``key``; when this returns they survive power loss."""
        text = "".join(json.dumps(record) + "\n" for record in records).encode()
        if self._stream.tell() and self._stream.tell() + len(text) > self._max_file_bytes:
            self._turn()
        _write_all(self._stream.fileno(), text)
        os.fsync(self._stream.fileno())
        self._note([str(record[KEY]) for record in records])

    def close(self) -> None:
        """Let others in."""
        self._stream.close()
        self._index.close()
        self._lock.close()

    def _turn(self) -> None:
        self._stream.close()
        self._number += 1
        self._stream = self._current.open("ab", buffering=0)
        _sync_folder(self.folder)

    def _repair(self) -> None:
        """Cut off a torn line, and catch the index up with the lines."""
        current = self._current
        if current.exists():
            _cut_torn_line(current)
        else:
            current.touch()
            _sync_folder(self.folder)
        ends = dict(self._index.execute("SELECT file, end FROM read").fetchall())
        sizes = {file.name: file.stat().st_size for file in self.files}
        if any(end > sizes.get(name, -1) for name, end in ends.items()):  # lines were taken away: they are the truth
            self._index.executescript("DELETE FROM seen; DELETE FROM read;")
            ends = {}
        for file in self.files:
            for keys, end in _keys_from(file, ends.get(file.name, 0)):
                self._note(keys, file=file.name, end=end)

    def _note(self, keys: Sequence[str], *, file: str | None = None, end: int | None = None) -> None:
        with self._index:
            self._index.executemany("INSERT OR IGNORE INTO seen VALUES (?)", [(key,) for key in keys])
            place = (file or self._current.name, self._stream.tell() if end is None else end)
            self._index.execute("INSERT OR REPLACE INTO read VALUES (?, ?)", place)


def _opened(path: Path) -> sqlite3.Connection:
    """The index; a damaged one is begun anew."""
    try:
        return _with_tables(path)
    except sqlite3.DatabaseError:
        for damaged in path.parent.glob(path.name + "*"):
            damaged.unlink()
        return _with_tables(path)


def _with_tables(path: Path) -> sqlite3.Connection:
    index = sqlite3.connect(path)
    index.execute("PRAGMA journal_mode = WAL")
    index.execute("PRAGMA synchronous = OFF")  # it can be made again
    index.execute("CREATE TABLE IF NOT EXISTS seen (key TEXT PRIMARY KEY) WITHOUT ROWID")
    index.execute("CREATE TABLE IF NOT EXISTS read (file TEXT PRIMARY KEY, end INTEGER)")
    index.execute("SELECT COUNT(*) FROM read").fetchone()
    return index


def _keys_from(file: Path, start: int) -> Iterator[tuple[list[str], int]]:
    """Keys of the whole lines from a place on, some thousands at a time, and where the next line begins."""
    with file.open("rb") as stream:
        stream.seek(start)
        keys: list[str] = []
        while line := stream.readline():
            try:
                keys.append(str(json.loads(line)[KEY]))
            except (ValueError, KeyError, TypeError):
                raise DataError(f"{file}: byte {stream.tell() - len(line)} begins a line that is no record") from None
            if len(keys) == 10_000:
                yield keys, stream.tell()
                keys = []
        if keys:
            yield keys, stream.tell()


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


def _sync_folder(folder: Path) -> None:
    """So that a new file's name survives power loss too."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _number_of(file: Path) -> int:
    return int(file.stem.rpartition("-")[2])
