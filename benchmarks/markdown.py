"""Markdown for RESULTS.md: tables, figures with their intervals, promises with a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pangu_cv.metrics import Interval, mean_interval

NOT_RUN = "not run"
Results = Mapping[str, Mapping[str, Any]]  # what each cell returned, by the cell's name


@dataclass(frozen=True)
class Promise:
    """One promise: ``reached`` is None where its cells were not run, or too few of them to say so."""

    text: str
    target: str
    measured: str = NOT_RUN
    reached: bool | None = None

    @property
    def row(self) -> list[str]:
        """Cells of a table's row."""
        unsaid = NOT_RUN if self.measured == NOT_RUN else "run in part"
        word = {True: "reached", False: "**not reached**", None: unsaid}[self.reached]
        return [self.text, self.target, self.measured, word]


def verdict(holds: bool, *, is_whole: bool) -> bool | None:
    """What a part of the runs shows can break a promise, and only all of them can keep it."""
    return holds if is_whole or not holds else None


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, the first column to the left and the others to the right, an empty line after it."""
    align = [":--", *["--:"] * (len(head) - 1)]
    return [f"| {' | '.join(row)} |" for row in (head, align, *rows)] + [""]


def points(interval: Interval, *, sign: bool = False) -> str:
    """A share or a difference of shares in points, with its 95 % interval."""
    form = "+z.1f" if sign else "z.1f"  # z: a loss that rounds to nothing is written as 0.0
    if interval.low is None or interval.high is None:
        return f"{100 * interval.mean:{form}}"
    return f"{100 * interval.mean:{form}} [{100 * interval.low:{form}}, {100 * interval.high:{form}}]"


def mean_points(values: Sequence[float], *, sign: bool = False) -> str:
    """The mean of shares in points; with an interval from three values on, since that of two says nothing."""
    of = mean_interval(values)
    return points(of if len(values) > 2 else Interval(of.mean, None, None, of.n), sign=sign)


def from_json(value: Mapping[str, Any] | None) -> Interval | None:
    """An interval from its ``as_json``."""
    return None if value is None else Interval(value["mean"], value["low"], value["high"], value["n"])


def number(value: float | None, form: str = ".3f") -> str:
    """A figure, or a dash where it is undefined."""
    return "–" if value is None else f"{value:{form}}"


def missing(rows: Sequence[str]) -> str:
    """A line that names cells that were not run."""
    return f"Not run: {', '.join(rows)}."
