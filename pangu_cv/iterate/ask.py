"""A session of questions: what is known, what to ask whom next, and when enough was asked.

Shapes: N images, D features, C classes.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pangu_cv.errors import DataError, SettingsError
from pangu_cv.iterate.answers import Answer, AnswerFile, Known, Said, known
from pangu_cv.iterate.learner import Learnt, Taught, learn, probabilities
from pangu_cv.iterate.questions import PricesConfig, Wanted, entropy_bits, hardest, question, typical
from pangu_cv.iterate.self_paced import Fronts, PaceConfig, fronts
from pangu_cv.settings import Settings

Stop = Literal["the fronts have met", "everything is answered", "the budget is spent"]
_STARTS_PER_CLASS = 3
_LEAST_WEIGHT = 0.02  # a pseudo-label of less is not worth a row


class AskConfig(Settings):
    """How questions are chosen and when they end."""

    prices: PricesConfig = PricesConfig()
    """Seconds of a person."""
    pace: PaceConfig = PaceConfig()
    """How fast the machine takes images over."""
    relearn_every: Annotated[int, Field(ge=1)] = 10
    """Answers between two rounds of learning."""
    penalty: Annotated[float, Field(gt=0)] = 0.1
    """Ridge penalty for features of about unit length."""
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    """Human seconds after which nothing more is asked; null asks until the fronts meet."""
    lease_seconds: Annotated[float, Field(gt=0)] = 120.0
    """A question that somebody was shown is given to another person after so long."""


@dataclass(frozen=True, eq=False)
class Subject:
    """N images, each with its name below ``root``, its SHA-256 and a row of features; ``prior_NC`` of a model."""

    root: Path
    images: tuple[Path, ...]
    digests: tuple[str, ...]
    features_ND: NDArray[np.float32]
    classes: tuple[str, ...]
    prior_NC: NDArray[np.float64] | None = None
    given: dict[str, str] = field(default_factory=dict)
    """Labels that were there before, by digest; an answer overrides one."""

    def name(self, row: int) -> str:
        """The image's path for people and files."""
        path = self.images[row]
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as somebody was shown it; ``klass`` None asks which class it is."""

    id: str
    row: int
    klass: str | None
    bits: float
    is_disputed: bool
    by: str
    at: float


class Session:
    """Questions on a subject; every method may be called from several threads."""

    def __init__(
        self, subject: Subject, file: AnswerFile, config: AskConfig, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if len(subject.classes) < 2:
            raise SettingsError("a question needs at least two classes")
        self.subject, self.file, self.config = subject, file, config
        self._clock, self._lock = clock, RLock()
        self._rows: dict[str, list[int]] = {}
        for row, sha256 in enumerate(subject.digests):
            self._rows.setdefault(sha256, []).append(row)
        self._numbers = {name: number for number, name in enumerate(subject.classes)}
        self._first = np.array([rows[0] for rows in self._rows.values()])
        self._starts: list[int] | None = None
        self._leases: dict[str, Asked] = {}
        self._shown: dict[str, Asked] = {}
        self._again: Counter[tuple[str, str, str]] = Counter()
        self._gone: set[int] = set()
        self._round = 0
        self._last: dict[str, list[Asked]] = {}
        self._learnt: Learnt | None = None
        self._soft: Fronts | None = None
        self._since = 0
        self._refresh()
        self._relearn()

    # what is known

    def _refresh(self) -> None:
        answers = self.file.read()
        strange = Counter(a.klass for a in answers if a.klass not in self._numbers and a.sha256 in self._rows)
        if strange:
            name, count = strange.most_common(1)[0]
            raise DataError(
                f"{self.file.path}: {count} answers are about '{name}', which is none of the classes "
                f"{', '.join(self.subject.classes)}; name it too, or its present name with --rename '{name}=NEW'"
            )
        self.known: Known = known(answers)
        self.elsewhere = len({a.sha256 for a in answers} - set(self._rows))
        images, classes = len(self.subject.images), len(self.subject.classes)
        self.label_N = np.full(images, -1)
        self.struck_NC = np.zeros((images, classes), bool)
        self._noes_N = np.zeros(images, int)
        closed = np.ones(images, bool)
        closed[self._first] = False  # of copies of one file the first is asked about
        for sha256, name in (self.subject.given | self.known.labels).items():
            if sha256 in self._rows and not self._is_overruled(sha256, name):
                self.label_N[self._rows[sha256]] = self._numbers[name]
        for sha256, names in self.known.struck.items():
            for row in self._rows.get(sha256, ()):
                self.struck_NC[row, [self._numbers[name] for name in names]] = True
                self._noes_N[row] = len(names)
        for sha256 in (*self.known.unsure, *self.known.disputed):
            closed[self._rows.get(sha256, [])] = True
        closed[list(self._gone)] = True
        self._closed_N = closed | self.struck_NC.all(1)

    def _is_overruled(self, sha256: str, name: str) -> bool:
        return name in self.known.struck.get(sha256, ()) or name in self.known.disputed.get(sha256, ())

    @property
    def is_open_N(self) -> NDArray[np.bool_]:
        """Images that may still be asked about."""
        return (self.label_N < 0) & ~self._closed_N

    def _relearn(self) -> None:
        labelled = np.flatnonzero(self.label_N >= 0)
        self._since = 0
        struck = self.struck_NC
        taught = Taught.labels(labelled, self.label_N[labelled])
        if len(set(self.label_N[labelled].tolist())) < 2:
            self.shares_NC = probabilities(None, taught, struck, prior_NC=self.subject.prior_NC)
        else:
            taught = self._with_pseudo_labels(taught)
            classes = len(self.subject.classes)
            learnt = learn(self.subject.features_ND, taught, classes=classes, penalty=self.config.penalty)
            self.shares_NC = probabilities(learnt, taught, struck, prior_NC=self.subject.prior_NC)
            self._learnt = learnt
            self._round += 1
        unlabelled = (self.label_N < 0) & ~self.struck_NC.all(1)
        self._soft = fronts(self.shares_NC, unlabelled, self.config.pace.at(self._round))

    def _with_pseudo_labels(self, taught: Taught) -> Taught:
        """The teacher is the round before, its struck-out classes suppressed by what is known now."""
        if self._learnt is None or self._soft is None or not self._knows_all_classes:
            return taught
        pace = self.config.pace
        weight_N = pace.weight * np.where(self.label_N < 0, self._soft.weight_N, 0.0)
        rows = np.argsort(-weight_N, kind="stable")[: pace.most]
        rows = rows[weight_N[rows] > _LEAST_WEIGHT]
        if not len(rows):
            return taught
        target_UC = np.where(self.struck_NC[rows], 0.0, self.shares_NC[rows])
        total_U = target_UC.sum(1)
        rows, target_UC, total_U = rows[total_U > 0], target_UC[total_U > 0], total_U[total_U > 0]
        weight_U = weight_N[rows] * min(1.0, len(taught.rows_L) / max(weight_N[rows].sum(), 1e-9))
        return Taught(taught.rows_L, taught.labels_L, rows, target_UC / total_U[:, None], weight_U)

    @property
    def _knows_all_classes(self) -> bool:
        return len(set(self.label_N[self.label_N >= 0].tolist())) == len(self.subject.classes)

    # what is asked

    def next(self, by: str) -> Asked | None:
        """A question for this person; None where there is none (see ``stopped``)."""
        with self._lock:
            self._sweep()
            if held := next((one for one in self._leases.values() if one.by == by), None):
                return held
            while self.stopped is None:
                asked = self._choose(by)
                if asked is None:
                    return None
                if self.subject.images[asked.row].is_file():
                    self._leases[asked.id] = self._shown[asked.id] = asked
                    return asked
                self._gone.add(asked.row)
                self._refresh()
            return None

    def _sweep(self) -> None:
        limit = self._clock() - self.config.lease_seconds
        self._leases = {key: one for key, one in self._leases.items() if one.at > limit}

    @property
    def stopped(self) -> Stop | None:
        """Why nothing more is asked, if so."""
        limit = self.config.max_seconds
        if limit is not None and self.known.seconds >= limit:
            return "the budget is spent"
        if not self.is_open_N.any():
            return None if self.known.disputed and not self._leases else "everything is answered"
        return "the fronts have met" if self._have_met else None

    @property
    def _have_met(self) -> bool:
        is_trusted = self._knows_all_classes or self.subject.prior_NC is not None
        return is_trusted and bool((self._soft_weights()[self.is_open_N] > 0).all())

    def _soft_weights(self) -> NDArray[np.float64]:
        assert self._soft is not None
        return self._soft.weight_N

    def _choose(self, by: str) -> Asked | None:
        if disputed := self._disputed(by):
            return disputed
        given = [one.row for one in self._leases.values()]
        open_N = self.is_open_N
        open_N[given] = False
        row = self._start(open_N) if not self._knows_all_classes and self.subject.prior_NC is None else None
        if row is None:
            doubtful_N = open_N & (self._soft_weights() == 0)
            rows = hardest(
                self.shares_NC,
                self.subject.features_ND,
                is_open_N=doubtful_N if doubtful_N.any() else open_N,
                count=self.config.relearn_every,
                given=[*given, *self._recent],
            )
            row = next((one for one in rows), None)
        if row is None:
            return None
        wanted = question(row, self._present(row), noes=int(self._noes_N[row]), prices=self.config.prices)
        return self._asked(wanted, by, is_disputed=False)

    @property
    def _recent(self) -> list[int]:
        """Rows asked about since the last round: the next one should be unlike them."""
        return [one.row for asked in self._last.values() for one in asked[len(asked) - self._since :]]

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

    def _disputed(self, by: str) -> Asked | None:
        for sha256, names in self.known.disputed.items():
            for name in sorted(names):
                row = self._rows.get(sha256, [-1])[0]
                is_out = any(one.row == row for one in self._leases.values())
                if row < 0 or is_out or row in self._gone or self._again[(sha256, name, by)]:
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
        name = klass if said == "label" else asked.klass
        if name is None and said == "unsure":
            name = self.subject.classes[int(self._present(asked.row).argmax())]
        if name not in self._numbers:
            raise DataError(f"'{name}' is none of the classes {', '.join(self.subject.classes)}")
        with self._lock:
            row = asked.row
            sha256 = self.subject.digests[row]
            is_new = self.file.append(
                Answer(self.subject.name(row), sha256, str(name), said, asked.by, seconds, id=asked.id)
            )
            self._leases.pop(asked.id, None)
            if is_new:
                self._last.setdefault(asked.by, []).append(asked)
                self._after()
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
            again = Asked(os.urandom(8).hex(), asked.row, asked.klass, asked.bits, False, by, self._clock())
            self._leases[again.id] = self._shown[again.id] = again
            return again

    def _after(self) -> None:
        self._refresh()
        self._since += 1
        if self._since >= self.config.relearn_every or not self._knows_all_classes:
            self._relearn()

    def shown(self, id_: str) -> Asked | None:
        """The question of that id, as it was shown; one that has lapsed may still be answered."""
        with self._lock:
            return self._shown.get(id_)

    @property
    def gone(self) -> list[str]:
        """Images that were there when the session began and are not any more."""
        return [self.subject.name(row) for row in sorted(self._gone)]

    @property
    def doubtful(self) -> list[int]:
        """Rows without a label, the most doubtful first."""
        rows: Sequence[int] = np.flatnonzero(self.label_N < 0).tolist()
        value = entropy_bits(self.shares_NC)
        return sorted(rows, key=lambda row: (-bool(self.struck_NC[row].all()), -value[row]))

    @property
    def pseudo_labels(self) -> dict[int, tuple[int, float]]:
        """What the machine has taken over: row to class number and probability."""
        weight_N = self._soft_weights()
        rows = np.flatnonzero((weight_N > 0) & (self.label_N < 0))
        return {int(row): (int(self.shares_NC[row].argmax()), float(self.shares_NC[row].max())) for row in rows}
