"""No regression: the old and the new model on the same frozen images, and a rule that lets the new one in or not.

The rule is one sentence: on the classes that the old model knows, no main figure of the new model may be lower than the
old one's by more than the limit. It is the plain difference, not whether chance would do: on few images chance explains
away any loss. Where one image weighs more than the limit, this refuses every net loss, and the verdict says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

import numpy as np

from pangu_cv.metrics import AnomalyOutcome, ClassificationOutcome
from pangu_cv.metrics.multilabel import MultilabelOutcome
from pangu_cv.metrics.paired import Comparison, paired
from pangu_cv.report.text import counted

WORDS = {
    "balanced_accuracy": "balanced accuracy",
    "mean_ap": "mean AP",
    "image_auroc": "image AUROC",
    "at_threshold": "mean of recall and passed normals at the threshold",
}
Outcome = ClassificationOutcome | MultilabelOutcome | AnomalyOutcome


@dataclass(frozen=True)
class Change:
    """A figure before and after, as shares of 1."""

    before: float
    after: float

    @property
    def drop(self) -> float:
        """How much is lost; negative where it is better."""
        return self.before - self.after


@dataclass(frozen=True, eq=False)
class Verdict:
    """``changes`` by figure on ``images`` frozen images; ``one_image`` is what the least common kind's image weighs."""

    changes: Mapping[str, Change]
    limit: float
    one_image: float
    comparison: Comparison

    @property
    def passes(self) -> bool:
        """Whether no figure is lower by more than the limit (and rounding)."""
        return all(change.drop <= self.limit + 1e-9 for change in self.changes.values())

    @property
    def flips(self) -> tuple[int, int]:
        """Images that only the old, and that only the new model gets right; zeros where there is no one answer."""
        found = self.comparison.disagreement
        return (found.only_b_right, found.only_a_right) if found else (0, 0)

    def told(self) -> str:
        """In words, for people."""
        parts = [
            f"{WORDS[name]} {100 * one.before:.1f} → {100 * one.after:.1f} %" for name, one in self.changes.items()
        ]
        lost, won = self.flips
        flips = f"; {counted(lost, 'image')} lost, {won} won" if lost or won else ""
        limit = f"limit: {100 * self.limit:g} points lower"
        if self.one_image > self.limit:
            limit += f", which any net loss exceeds here, since one image weighs up to {100 * self.one_image:.1f}"
        images = counted(self.comparison.images, "frozen image")
        return f"{images}: {', '.join(parts)}{flips} ({limit})"

    def as_json(self) -> dict[str, Any]:
        """For the ledger and ``metrics.json``."""
        return {
            "passes": self.passes,
            "compared": self.comparison.images,
            "limit": self.limit,
            "figures": {name: {"before": one.before, "after": one.after} for name, one in self.changes.items()},
            "lost": self.flips[0],
            "won": self.flips[1],
        }


def judge(old: Outcome, new: Outcome, *, limit: float) -> Verdict:
    """Compare two outcomes of one kind, of the same images; for classifiers those of classes that the old one knows."""
    comparison = paired(new, old)
    kinds = _kinds(old)
    figures = {name: (figure_of(old)[name], figure_of(new)[name]) for name in figure_of(old)}
    changes = {n: Change(b, a) for n, (b, a) in figures.items() if b is not None and a is not None}
    return Verdict(changes, limit, 1 / (min(kinds) * len(kinds)) if kinds else 1.0, comparison)


def figure_of(outcome: Outcome) -> dict[str, float | None]:
    """The figures that must hold."""
    match outcome:
        case ClassificationOutcome():
            return {"balanced_accuracy": outcome.balanced_accuracy}
        case MultilabelOutcome():
            return {"mean_ap": outcome.mean_ap}
        case _:
            recall, alarms = outcome.recall, outcome.false_alarm_rate
            both = None if recall is None or alarms is None else (recall + 1 - alarms) / 2
            alone = recall if alarms is None else 1 - alarms
            return {"image_auroc": outcome.image_auroc, "at_threshold": alone if both is None else both}


def _kinds(outcome: Outcome) -> list[int]:
    """Images of each kind that occurs."""
    match outcome:
        case ClassificationOutcome():
            counts = outcome.confusion_CC.sum(1)
        case MultilabelOutcome():
            counts = outcome.truth_NC.sum(0)
        case _:
            counts = np.bincount(outcome.is_defect_N.astype(np.int64), minlength=2)
    return [int(count) for count in counts if count]


def of_classes(outcome: ClassificationOutcome, names: Sequence[str]) -> ClassificationOutcome:
    """The outcome on the images of some classes; any class may be the answer."""
    numbers = [outcome.classes.index(name) for name in names]
    chosen_N = np.isin(outcome.truth_N, numbers)
    return replace(
        outcome,
        paths=tuple(compress(outcome.paths, chosen_N)),
        scores_NC=outcome.scores_NC[chosen_N],
        truth_N=outcome.truth_N[chosen_N],
        unknown=None,
        groups=tuple(compress(outcome.groups, chosen_N)),
    )


def tags_of(outcome: MultilabelOutcome, names: Sequence[str]) -> MultilabelOutcome:
    """The outcome of some classes on all images."""
    order = [outcome.classes.index(name) for name in names]
    return replace(
        outcome,
        classes=tuple(names),
        scores_NC=outcome.scores_NC[:, order],
        is_present_NC=outcome.is_present_NC[:, order],
        truth_NC=outcome.truth_NC[:, order],
    )
