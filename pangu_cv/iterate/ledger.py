"""Which data made which model: lines that only ever grow, each bound to the one before by its SHA-256.

Every line holds its own digest and that of the line before, so a line that was edited, taken out or moved is found and
named. What no chain can see from inside: that its last lines were taken away together, or that all of it was written
anew. The head (the last line's digest), kept elsewhere, guards against both: ``pangu-cv ledger check FILE --head X``.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pangu_cv.errors import DataError, SettingsError
from pangu_cv.iterate.appended import append_line

START = "0" * 64  # what the first line names as the one before
_HEAD = re.compile(r"[0-9a-fA-F]{8,64}")
_KEYS = {"seq", "time", "id", "event", "facts", "previous", "sha256"}


@dataclass(frozen=True)
class Entry:
    """A line: its place from 1, when (UTC), its id, what happened, the facts, and the digests that bind it."""

    seq: int
    time: str
    id: str
    event: str
    facts: dict[str, Any]
    previous: str
    sha256: str


@dataclass(frozen=True)
class Flaw:
    """What is wrong with the line at a place, counted from 1."""

    line: int
    what: str


@dataclass(frozen=True)
class Ledger:
    """A file of JSON lines."""

    path: Path

    def append(
        self,
        event: str,
        *,
        id: str | None = None,
        check: Callable[[tuple[Entry, ...]], None] | None = None,
        **facts: Any,
    ) -> Entry:
        """Add a line; when this returns it survives power loss. ``id`` must not occur yet; default: a fresh one.

        Safe with several writers at once: ``check`` gets the lines that are there when no other writer can add one, and
        stops this one by raising. A line torn by power loss is set aside first, and a line says so. Raises DataError
        where the file has been tampered with, or the id is there already.
        """
        with self._locked():
            self._mend()
            entries = self.entries()
            if id is not None and (known := next((e for e in entries if e.id == id), None)):
                raise DataError(
                    f"{self.path}: line {known.seq} ({known.event}, {known.time}) has the id '{id}' already"
                )
            if check is not None:
                check(tuple(entries))
            return self._write(entries, event, facts, id=id)

    def entries(self) -> list[Entry]:
        """All lines, checked; none where there is no file. A torn last line is passed over.

        Raises DataError that names the first flaw.
        """
        entries, flaws, _ = _read(self.path)
        if flaws:
            raise DataError(_told(self.path, flaws))
        return entries

    def require(self) -> None:
        """Raises DataError where there is no file."""
        if not self.path.is_file():
            raise DataError(
                f"'{self.path}' is no file; 'pangu-cv update' and 'loop' write a ledger.jsonl beside their runs"
            )

    def flaws(self, *, head: str | None = None) -> list[Flaw]:
        """What is wrong, line by line; ``head`` is the digest that the last line, or one before it, must have.

        Its first 8 hex digits or more will do. Raises SettingsError for less, DataError where there is no file.
        """
        if head is not None and not _HEAD.fullmatch(head):
            raise SettingsError(
                f"--head '{head}': expected 8 to 64 hex digits, the first ones of a head that an earlier "
                "'pangu-cv ledger check' printed; leave --head out to check the chain alone"
            )
        self.require()
        entries, flaws, torn = _read(self.path)
        if torn:
            flaws = [*flaws, Flaw(len(entries) + len(flaws) + 1, "is torn, as by power loss; the next entry mends it")]
        if head is not None and not any(e.sha256.startswith(head.lower()) for e in entries):
            flaws = [*flaws, Flaw(len(entries) + 1, f"no line has the digest {head}: lines were cut off or rewritten")]
        return flaws

    @property
    def head(self) -> str:
        """The last line's digest; keep it elsewhere."""
        entries = self.entries()
        return entries[-1].sha256 if entries else START

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f".{self.path.name}.lock").open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _mend(self) -> None:
        """Finish or set aside what power loss left of a last line."""
        entries, flaws, torn = _read(self.path)
        if not torn or flaws:
            return
        whole = self.path.read_bytes()
        keep = whole.rfind(b"\n") + 1
        aside = self.path.with_name(f"{self.path.name}.torn-{len(entries) + 1}")
        aside.write_bytes(whole[keep:])
        with self.path.open("r+b") as stream:
            stream.truncate(keep)
        self._write(entries, "mended", {"torn_bytes": len(torn), "kept_in": aside.name}, id=None)

    def _write(self, entries: list[Entry], event: str, facts: Mapping[str, Any], *, id: str | None) -> Entry:
        last = entries[-1] if entries else None
        body = {
            "seq": last.seq + 1 if last else 1,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "id": id or os.urandom(8).hex(),
            "event": event,
            "facts": json.loads(json.dumps(facts, allow_nan=False)),
            "previous": last.sha256 if last else START,
        }
        record = body | {"sha256": _digest(body)}
        append_line(self.path, json.dumps(record, ensure_ascii=False))
        return Entry(**record)


def _digest(body: Mapping[str, Any]) -> str:
    text = json.dumps({key: body[key] for key in sorted(_KEYS - {"sha256"})}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path) -> tuple[list[Entry], list[Flaw], bytes]:
    """Sound lines, flaws, and what follows the last line's end."""
    if not path.exists():
        return [], [], b""
    *lines, torn = path.read_bytes().split(b"\n")
    entries: list[Entry] = []
    flaws: list[Flaw] = []
    before, place = START, 0
    ids: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        entry = _parsed(line)
        if entry is None:
            flaws.append(Flaw(number, "was edited: it does not have the digest that it names"))
            before, place = "", place + 1
            continue
        if before and entry.previous != before:
            flaws.append(Flaw(number, _misplaced(entry, place)))
        if entry.id in ids:
            flaws.append(Flaw(number, f"has the id of line {ids[entry.id]}"))
        ids.setdefault(entry.id, number)
        before, place = entry.sha256, entry.seq
        entries.append(entry)
    return entries, flaws, torn


def _misplaced(entry: Entry, place: int) -> str:
    if entry.seq > place + 1:
        gone = entry.seq - place - 1
        return f"is entry {entry.seq}, but the line before is entry {place}: {gone} taken out here, or moved"
    if entry.seq <= place:
        return f"is entry {entry.seq}, but comes after entry {place}: it was moved here, or copied"
    return f"does not follow the line before: entry {place} was replaced"


def _parsed(line: bytes) -> Entry | None:
    try:
        record = json.loads(line)
        if set(record) != _KEYS or record["sha256"] != _digest(record):
            return None
        return Entry(**record)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _told(path: Path, flaws: list[Flaw]) -> str:
    first = flaws[0]
    more = f" ({len(flaws) - 1} more; 'pangu-cv ledger check' lists them)" if len(flaws) > 1 else ""
    return (
        f"{path}: line {first.line} {first.what}{more}. Nothing is added to a ledger that was tampered with; "
        "restore it from a copy, or begin another one"
    )
