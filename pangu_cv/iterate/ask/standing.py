"""What is known of a subject: answers added up, what they teach, and where the fronts are.

Shapes: N images, D features, C classes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pangu_cv.errors import DataError, SettingsError
from pangu_cv.iterate.answers import AnswerFile, Known, known
from pangu_cv.iterate.ask.checks import Checks, checks
from pangu_cv.iterate.ask.config import AskConfig
from pangu_cv.iterate.ask.history import superseded
from pangu_cv.iterate.ask.subject import Subject
from pangu_cv.iterate.learner import Learnt, Taught, learn, masked_teacher, probabilities
from pangu_cv.iterate.questions import entropy_bits
from pangu_cv.iterate.self_paced import Fronts, fronts

_TINY = 1e-9
_LEAST_WEIGHT = 0.02  # a pseudo-label of less is not worth a row


class Standing:
    """Labels, classes struck out and shares of each image; learnt anew from round to round."""

    def __init__(self, subject: Subject, file: AnswerFile, config: AskConfig) -> None:
        if len(subject.classes) < 2:
            raise SettingsError("a question needs at least two classes")
        self.subject, self.file, self.config = subject, file, config
        self._rows: dict[str, list[int]] = {}
        for row, sha256 in enumerate(subject.digests):
            self._rows.setdefault(sha256, []).append(row)
        self._numbers = {name: number for number, name in enumerate(subject.classes)}
        self._first = np.array([rows[0] for rows in self._rows.values()])
        self._gone: set[int] = set()
        self.superseded = superseded(file.read(), subject.settled)
        self._passed_over = {answer.id for answer in self.superseded}
        self.learnt: Learnt | None = None
        self.doubts: dict[int, int] = {}
        self._soft: Fronts | None = None
        self._since = 0
        self._refresh()
        self._relearn()

    def _refresh(self) -> None:
        given = self.file.read()
        answers = [answer for answer in given if answer.id not in self._passed_over]
        strange = Counter(a.klass for a in answers if a.klass not in self._numbers and a.sha256 in self._rows)
        if strange:
            name, count = strange.most_common(1)[0]
            raise DataError(
                f"{self.file.path}: {count} answers are about '{name}', which is none of the classes "
                f"{', '.join(self.subject.classes)}; name it too, or its present name with --rename '{name}=NEW'"
            )
        seconds = sum(answer.seconds for answer in given)
        self.known: Known = replace(known(answers), answers=len(given), seconds=seconds)
        ours = [a for a in answers if a.sha256 in self._rows]
        self._round = len(ours) // self.config.relearn_every
        to_check = self.config.checks.of(len(self._rows))
        self.checks: Checks = checks(ours, count=to_check, most_wrong=self.config.checks.most_wrong)
        self._looked_at_again = {a.sha256 for a in ours if a.kind == "second look"}
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
        """A round: all pseudo-labels are drawn anew."""
        labelled = self._first[self.label_N[self._first] >= 0]  # copies of a file would vouch for each other
        self._since = 0
        struck = self.struck_NC
        taught = Taught.labels(labelled, self.label_N[labelled])
        if len(set(self.label_N[labelled].tolist())) < 2:
            self.shares_NC = probabilities(None, taught, struck, prior_NC=self.subject.prior_NC)
            self.doubts = {}
        else:
            taught = self._with_pseudo_labels(taught)
            classes = len(self.subject.classes)
            learnt = learn(self.subject.features_ND, taught, classes=classes, penalty=self.config.penalty)
            self.shares_NC = probabilities(learnt, taught, struck, prior_NC=self.subject.prior_NC)
            self.learnt = learnt
            self.doubts = self._doubts_of(learnt, taught) if self._knows_all_classes else {}
        unlabelled = (self.label_N < 0) & ~self.struck_NC.all(1)
        self._soft = fronts(self.shares_NC, unlabelled, self._pace())

    def _doubts_of(self, learnt: Learnt, taught: Taught) -> dict[int, int]:
        """Rows that a person labelled and the machine, left alone, would take over as another class: that class.

        Without its only image no class could be told: that gets no look.
        """
        shares_LC = masked_teacher(learnt.left_out_LC, self.struck_NC[taught.rows_L])
        counts = Counter(self.label_N[self._first].tolist())
        found_L = shares_LC.argmax(1)
        is_sure_L = -np.log(np.maximum(shares_LC.max(1), _TINY)) < self._pace()
        rows = np.flatnonzero(is_sure_L & (found_L != taught.labels_L))
        doubted = {int(taught.rows_L[at]): int(found_L[at]) for at in rows}
        digests = self.subject.digests
        return {
            row: klass
            for row, klass in doubted.items()
            if digests[row] in self.known.labels
            if counts[int(self.label_N[row])] > 1
        }

    @property
    def doubted(self) -> dict[int, int]:
        """Rows that wait for a second look, and at which class; an image gets one."""
        unsettled = {self._rows[key][0]: self._numbers[name] for key, name in self.checks.unsettled.items()}
        waiting = {**self.doubts, **unsettled}
        seen, digests = self._looked_at_again, self.subject.digests
        return {row: klass for row, klass in waiting.items() if row not in self._gone and digests[row] not in seen}

    def _pace(self) -> float:
        return self.config.pace.at(self._round, halvings=self.checks.failed)

    def _with_pseudo_labels(self, taught: Taught) -> Taught:
        """The teacher is the round before, its struck-out classes suppressed by what is known now."""
        if self.learnt is None or self._soft is None or not self._knows_all_classes:
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

    @property
    def _have_met(self) -> bool:
        is_trusted = self._knows_all_classes or self.subject.prior_NC is not None
        return is_trusted and bool((self._soft_weights()[self.is_open_N] > 0).all())

    def _soft_weights(self) -> NDArray[np.float64]:
        assert self._soft is not None
        return self._soft.weight_N

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
