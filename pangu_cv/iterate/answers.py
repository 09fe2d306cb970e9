"""What people said of images: JSON lines that only ever grow, written by several people at once.

An image is its SHA-256, so that answers survive its moving; the path is for people. A line's ``id`` makes an answer
that is sent twice one answer. A class that was renamed gets a line of its own, which holds for all lines before it.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock

from pangu_cv.errors import DataError
from pangu_cv.iterate.appended import append_line

Said = Literal["yes", "no", "unsure", "label", "withdrawn"]
Kind = Literal["question", "check", "second look"]
_SAID, _KINDS = get_args(Said), get_args(Kind)
_SHA256 = re.compile("[0-9a-f]{64}")
_LONGEST = 300.0  # seconds that one question can have cost; beyond it somebody went to lunch


@dataclass(frozen=True, slots=True)
class Answer:
    """One word of one person.

    ``yes`` and ``no`` answer "is this a ``klass``?", ``label`` names the class unasked or out of all; ``withdrawn``
    takes back what the person had said of the image and class before. ``when`` is UTC. ``kind`` is why
    it was asked: ``check``, the machine had taken the image over as that class; ``second look``, the machine would
    have, but for another label.
    """

    image: str
    sha256: str
    klass: str
    said: Said
    by: str
    seconds: float
    when: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    id: str = field(default_factory=lambda: os.urandom(8).hex())
    kind: Kind = "question"

    def __post_init__(self) -> None:
        texts = (self.image, self.sha256, self.klass, self.by, self.when, self.id)
        fits = all(isinstance(one, str) for one in texts) and self.said in _SAID
        fits = fits and self.kind in _KINDS
        if not fits or not self.klass or not _SHA256.fullmatch(self.sha256) or not math.isfinite(self.seconds):
            raise ValueError("is no answer")
        object.__setattr__(self, "seconds", min(max(float(self.seconds), 0.0), _LONGEST))


class AnswerFile:
    """``answers.jsonl``; safe with several writers, in one process or in many."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))
        self._answers: list[Answer] = []
        self._ids: set[str] = set()
        self._end = self._lines = 0

    def read(self) -> list[Answer]:
        """All answers in the order in which they were given, classes under their present names.

        What others have written meanwhile is read too. Raises DataError that names a line which is none of ours.
        """
        with self._lock:
            self._read_on()
            return list(self._answers)

    def append(self, answer: Answer) -> bool:
        """Whether it is new: one with an id that is there already changes nothing. On return it survives power loss."""
        with self._lock:
            self._read_on()
            if answer.id in self._ids:
                return False
            self._write(asdict(answer))
            return True

    def rename(self, old: str, new: str) -> int:
        """From now on ``old`` is called ``new``; returns how many answers that concerns (of 0 nothing is written)."""
        with self._lock:
            self._read_on()
            found = sum(answer.klass == old for answer in self._answers)
            if found and old != new:
                self._write({"renamed": old, "to": new})
            return found

    def _write(self, record: dict[str, Any]) -> None:
        append_line(self.path, json.dumps(record, allow_nan=False))
        self._read_on()

    def _read_on(self) -> None:
        """Take in what was appended since; a last line that power loss tore is set aside."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < self._end:
            raise DataError(f"{self.path}: has become shorter since it was read; restore it from a copy")
        if size == self._end:
            return
        with self.path.open("rb") as stream:
            stream.seek(self._end)
            *lines, torn = stream.read().split(b"\n")
        for line in lines:
            self._take(line)
        if torn:
            self._mend(torn)

    def _take(self, line: bytes) -> None:
        self._lines += 1
        try:
            record = json.loads(line) if line.strip() else None
            if record is not None:
                self._enter(record)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise DataError(
                f"{self.path}: line {self._lines} is no answer (edited by hand, or another file); mend it"
            ) from None
        self._end += len(line) + 1

    def _enter(self, record: dict[str, Any]) -> None:
        if "renamed" in record:
            old, new = str(record["renamed"]), str(record["to"])
            self._answers = [replace(one, klass=new) if one.klass == old else one for one in self._answers]
            return
        answer = Answer(**record)
        if answer.id not in self._ids:
            self._ids.add(answer.id)
            self._answers.append(answer)

    def _mend(self, torn: bytes) -> None:
        """A whole line without its end (an editor's) is kept, half a line goes to a file beside."""
        with suppress(ValueError):
            json.loads(torn)
            with self.path.open("ab") as stream:
                stream.write(b"\n")
            self._take(torn)
            return
        with self.path.with_name(f"{self.path.name}.torn").open("ab") as aside:
            aside.write(torn + b"\n")
        with self.path.open("r+b") as stream:
            stream.truncate(self._end)


@dataclass(frozen=True)
class Known:
    """What answers come to, by the SHA-256 of images.

    ``struck`` are classes that an image does not show,
    ``disputed`` classes of which people disagree: neither a label nor struck out. ``unsure`` are those that somebody
    could not tell. ``seconds`` is all the time that people gave.
    """

    labels: dict[str, str]
    struck: dict[str, frozenset[str]]
    disputed: dict[str, frozenset[str]]
    unsure: dict[str, frozenset[str]]
    seconds: float
    answers: int


def known(answers: Iterable[Answer]) -> Known:
    """Add them up: of one person the latest word on an image and class counts, of several people the majority."""
    given = list(answers)
    words: dict[str, dict[tuple[str, str], Said]] = {}
    for answer in standing(given):
        said = words.setdefault(answer.sha256, {})
        if answer.said in ("yes", "label"):  # an image shows one class: what this person took it for before is void
            for key in [k for k, word in said.items() if k[0] == answer.by and word in ("yes", "label")]:
                del said[key]
        said.pop((answer.by, answer.klass), None)
        said[(answer.by, answer.klass)] = answer.said
    summed = {sha256: _sum(said) for sha256, said in words.items()}
    return Known(
        {key: one.label for key, one in summed.items() if one.label is not None},
        {key: one.struck for key, one in summed.items() if one.struck},
        {key: one.disputed for key, one in summed.items() if one.disputed},
        {key: one.unsure for key, one in summed.items() if one.unsure},
        sum(answer.seconds for answer in given),
        len(given),
    )


def standing(answers: Sequence[Answer]) -> list[Answer]:
    """Those that were not taken back, so that what one had made void holds again."""
    taken_back: set[tuple[str, str, str]] = set()
    left = []
    for answer in reversed(answers):
        key = (answer.sha256, answer.by, answer.klass)
        if answer.said == "withdrawn":
            taken_back.add(key)
        elif key not in taken_back:
            left.append(answer)
    return left[::-1]


@dataclass(frozen=True)
class _Summed:
    label: str | None
    struck: frozenset[str]
    disputed: frozenset[str]
    unsure: frozenset[str]


def _sum(said: dict[tuple[str, str], Said]) -> _Summed:
    """Votes on one image. Who says it is an A says that it is no B, as far as somebody holds it to be a B."""
    takes = {by: klass for (by, klass), word in said.items() if word in ("yes", "label")}
    against: dict[str, set[str]] = {}
    for (by, klass), word in said.items():
        if word == "no":
            against.setdefault(klass, set()).add(by)
    for klass in set(takes.values()):
        against.setdefault(klass, set()).update(by for by, taken in takes.items() if taken != klass)
    votes = {klass: list(takes.values()).count(klass) for klass in against | dict.fromkeys(takes.values())}
    disputed = {klass for klass, count in votes.items() if count and count == len(against.get(klass, ()))}
    won = [klass for klass, count in votes.items() if count > len(against.get(klass, ()))]
    label = won[0] if len(won) == 1 else None
    struck = {klass for klass, people in against.items() if len(people) > votes.get(klass, 0)}
    unsure = {klass for (_, klass), word in said.items() if word == "unsure"}
    return _Summed(label, frozenset(struck), frozenset(disputed), frozenset(unsure - {label} - struck))
