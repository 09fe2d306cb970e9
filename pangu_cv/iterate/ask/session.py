"""A session of questions: what to ask whom next, what was answered, and when enough was asked.

Shapes: N images, D features, C classes.
"""

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import RLock
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pangu_cv.errors import DataError
from pangu_cv.iterate.answers import Answer, AnswerFile, Kind, Said
from pangu_cv.iterate.ask.config import AskConfig
from pangu_cv.iterate.ask.shown import ShownFile, is_shown
from pangu_cv.iterate.ask.standing import Standing
from pangu_cv.iterate.ask.subject import Subject
from pangu_cv.iterate.questions import Wanted, hardest, information_bits, question, typical

Stop = Literal["the fronts have met", "everything is answered", "the budget is spent"]
_STARTS_PER_CLASS = 3
_EXPECTED: dict[Kind, Said] = {"check": "yes", "second look": "no"}  # another answer teaches at once


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as somebody was shown it; ``klass`` None asks which class it is; ``kind`` is why it is asked."""

    id: str
    row: int
    klass: str | None
    bits: float
    is_disputed: bool
    by: str
    at: float
    kind: Kind = "question"


class Session(Standing):
    """Questions on a subject; every method may be called from several threads, and several sessions, of one process or
    of many, may have one file of answers. ``clock`` is one that they share."""

    def __init__(
        self, subject: Subject, file: AnswerFile, config: AskConfig, *, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(subject, file, config)
        self._clock, self._lock = clock, RLock()
        self._starts: list[int] | None = None
        self._leases: dict[str, Asked] = {}
        self._elsewhere = ShownFile(file.path, seconds=config.lease_seconds, clock=clock)
        self._shown: dict[str, Asked] = {}
        self._again: Counter[tuple[str, str, str]] = Counter()
        self._last: dict[str, list[Asked]] = {}

    # what is asked

    def next(self, by: str) -> Asked | None:
        """A question for this person; None where there is none (see ``stopped``).

        An image that another session shows comes last: it may be that nobody sits there any more.
        """
        with self._lock:
            self._sweep()
            if self._is_behind:
                self._after(is_surprise=False)
            while True:
                with self._elsewhere.lock:  # never while learning: other processes wait
                    held = next((one for one in self._leases.values() if one.by == by), None)
                    asked = held or self._next(by)
                    self._tell()
                if asked is not None or self.stopped is not None or not self._since:
                    return asked
                self._relearn()  # all that is doubtful was asked about since the last round

    def _tell(self) -> None:
        self._elsewhere.replace({self.subject.digests[one.row]: one.at for one in self._leases.values()})

    def _next(self, by: str) -> Asked | None:
        if self._is_behind:
            self._take_in()
        others = {self._rows[sha256][0] for sha256 in self._elsewhere.elsewhere() if sha256 in self._rows}
        while self.stopped is None:
            out = {one.row for one in self._leases.values()}
            asked = self._choose(by, out | others) or (self._choose(by, out) if others else None)
            if asked is None:
                return None
            if self.subject.images[asked.row].is_file():
                self._leases[asked.id] = self._shown[asked.id] = asked
                return asked
            self._gone.add(asked.row)
            self._refresh()
        return None

    def _sweep(self) -> None:
        now, seconds = self._clock(), self.config.lease_seconds
        self._leases = {key: one for key, one in self._leases.items() if is_shown(one.at, now=now, seconds=seconds)}

    @property
    def stopped(self) -> Stop | None:
        """Why nothing more is asked, if so."""
        limit = self.config.max_seconds
        if limit is not None and self.known.seconds >= limit:
            return "the budget is spent"
        if self.doubted:
            return None
        if not self.is_open_N.any():
            return None if self.known.disputed and not self._leases else "everything is answered"
        return "the fronts have met" if self._have_met and self.checks.has_passed else None

    def _choose(self, by: str, out: set[int]) -> Asked | None:
        """A question on none of the rows ``out``, which people are being asked about."""
        if again := self._disputed(by, out) or self._second_look(by, out):
            return again
        open_N = self.is_open_N
        open_N[list(out)] = False
        row = self._start(open_N) if not self._knows_all_classes and self.subject.prior_NC is None else None
        if row is None and self._have_met and (check := self._check(open_N, by)):
            return check
        if row is None:
            doubtful_N = open_N & (self._soft_weights() == 0)
            rows = hardest(
                self.shares_NC,
                self.subject.features_ND,
                is_open_N=doubtful_N if doubtful_N.any() else open_N,
                count=self.config.relearn_every,
                given=[*out, *self._recent],
            )
            row = next((one for one in rows), None)
        if row is None:
            return None
        wanted = question(row, self._present(row), noes=int(self._noes_N[row]), prices=self.config.prices)
        return self._asked(wanted, by, is_disputed=False)

    def _second_look(self, by: str, out: set[int]) -> Asked | None:
        """A slip, of a person or of the machine: is the image what the machine takes it for?"""
        doubted = self.doubted
        row = next((row for row in doubted if row not in out), None)
        if row is None:
            return None
        return replace(self._asked(Wanted(row, doubted[row], 1.0), by, is_disputed=False), kind="second look")

    def _check(self, open_N: NDArray[np.bool_], by: str) -> Asked | None:
        """Of the images that the machine took over the one of the smallest digest: a draw by chance, after a restart
        the same."""
        digests, checked = self.subject.digests, self.checks.images
        rows = [row for row in np.flatnonzero(open_N).tolist() if digests[row] not in checked]
        if not rows:
            return None
        row = min(rows, key=lambda one: digests[one])
        klass = int(self.shares_NC[row].argmax())
        told = float(information_bits(self.shares_NC[row, klass]))
        return replace(self._asked(Wanted(row, klass, told), by, is_disputed=False), kind="check")

    @property
    def _recent(self) -> list[int]:
        """Rows asked about since the last round: the next one should be unlike them."""
        return [one.row for asked in self._last.values() for one in asked[max(0, len(asked) - self._since) :]]

    def _present(self, row: int) -> NDArray[np.float64]:
        """Shares of one image with what was struck out since the last round."""
        shares = np.where(self.struck_NC[row], 0.0, self.shares_NC[row])
        total = shares.sum()
        left = ~self.struck_NC[row]
        return np.asarray(shares / total if total > 0 else left / left.sum())

    def _start(self, open_N: NDArray[np.bool_]) -> int | None:
        """While classes are unseen: the middle of one cluster after another, each asked about until it is known."""
        if self._starts is None:
            self._starts = typical(self.subject.features_ND, _STARTS_PER_CLASS * len(self.subject.classes))
        return next((row for row in self._starts if open_N[row]), None)

    def _disputed(self, by: str, out: set[int]) -> Asked | None:
        for sha256, names in self.known.disputed.items():
            for name in sorted(names):
                row = self._rows.get(sha256, [-1])[0]
                if row < 0 or row in out or row in self._gone or self._again[(sha256, name, by)]:
                    continue
                self._again[(sha256, name, by)] += 1
                return self._asked(Wanted(row, self._numbers[name], 1.0), by, is_disputed=True)
        return None

    def _asked(self, wanted: Wanted, by: str, *, is_disputed: bool) -> Asked:
        name = None if wanted.klass is None else self.subject.classes[wanted.klass]
        return Asked(os.urandom(8).hex(), wanted.row, name, wanted.bits, is_disputed, by, self._clock())

    # what is answered

    def take(self, asked: Asked, said: Said, *, seconds: float, klass: str | None = None) -> bool:
        """Keep an answer; ``klass`` is the class where ``said`` is ``label``. False where it was there already.

        Raises DataError for an answer that does not fit the question.
        """
        if said == "label" and klass == asked.klass and asked.kind != "question":
            said = "yes"  # the class's number instead of y
        name = klass if said == "label" else asked.klass
        if name is None and said == "unsure":
            name = self.subject.classes[int(self._present(asked.row).argmax())]
        if name not in self._numbers:
            raise DataError(f"'{name}' is none of the classes {', '.join(self.subject.classes)}")
        with self._lock:
            row = asked.row
            sha256 = self.subject.digests[row]
            answer = Answer(self.subject.name(row), sha256, str(name), said, asked.by, seconds, id=asked.id)
            is_new = self.file.append(replace(answer, kind=asked.kind))
            self._leases.pop(asked.id, None)
            if is_new:
                self._last.setdefault(asked.by, []).append(asked)
                self._after(is_surprise=said != _EXPECTED.get(asked.kind, said))
            return is_new

    def undo(self, by: str) -> Asked | None:
        """Take this person's last answer of the session back and ask the same again; None where there is none."""
        with self._lock:
            if not self._last.get(by):
                return None
            asked = self._last[by].pop()
            given = next(a for a in reversed(self.file.read()) if a.id == asked.id)
            self.file.append(Answer(given.image, given.sha256, given.klass, "withdrawn", by, 0.0))
            self._refresh()
            self._relearn()
            for held in [one for one in self._leases.values() if one.by == by]:
                del self._leases[held.id]
            again = replace(asked, id=os.urandom(8).hex(), is_disputed=False, at=self._clock())
            self._leases[again.id] = self._shown[again.id] = again
            with self._elsewhere.lock:
                self._tell()
            return again

    @property
    def _is_behind(self) -> bool:
        """Whether something was said in other sessions meanwhile."""
        return len(self.file.read()) != self.known.answers

    def _take_in(self) -> bool:
        """Count what was said since, without learning from it; returns whether a check has failed."""
        failed, before = self.checks.failed, self.known.answers
        self._refresh()
        self._since += self.known.answers - before
        return self.checks.failed > failed

    def _after(self, *, is_surprise: bool) -> None:
        is_surprise |= self._take_in()
        if self._since >= self.config.relearn_every or not self._knows_all_classes or is_surprise:
            self._relearn()

    def shown(self, id_: str) -> Asked | None:
        """The question of that id, as it was shown; one that has lapsed may still be answered."""
        return self._shown.get(id_)  # without the lock: a picture does not wait for learning
