"""Which way of adapting suits these few labels: a few are tried, and cross-validation on the labels themselves decides.

The plainest way, closed form on frozen features, is the yardstick: the way that beats it by most on the same folds is
taken, and the yardstick where none does. Trials go round, fold by fold, so that all ways have seen the same folds when
the time is up.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from pangu_cv.data.sample import Sample
from pangu_cv.errors import GpuMemoryError, SettingsError
from pangu_cv.finetune.folds import Shown, folds_of
from pangu_cv.models.adapt import Adapt, Frozen, Linear, Partial
from pangu_cv.models.training import History, TrainConfig
from pangu_cv.report.page import Page
from pangu_cv.settings import Settings

Trial = Callable[[Adapt, Sequence[Sample], Sequence[Sample], int], Sequence[float]]
"""(way, images to learn from, images to measure on, seed) to what each measured image is worth, 0..1."""
_SECONDS = 24.0
_LEAST = 0.2  # of a training's steps, in a trial


class OutOfTimeError(Exception):
    """A trial that did not come to its end within its share of the time: what it would have said is not known."""


def require_enough(history: History, train: TrainConfig) -> None:
    """Raise OutOfTimeError where next to none of the steps were made.

    A training that its limit of time cuts short cools down by the clock, so a few steps of it speak for the way.
    """
    if history.losses and len(history.losses["total"]) < _LEAST * train.steps:
        raise OutOfTimeError


class Auto(Settings):
    """Try a few ways and take the best."""

    kind: Literal["auto"] = "auto"
    """The way."""
    ways: Annotated[tuple[Adapt, ...], Field(min_length=1)] = (Linear(), Partial(blocks=2), Partial(blocks=6))
    """What is tried beside closed form on frozen features."""
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    """Parts the labelled images are cut into; a class with fewer images is cut into as many as it has."""
    seconds: Annotated[float, Field(gt=0)] | None = None
    """For the trials; the way that is chosen is trained after that. null is 24 for classify and multilabel, where a way
    that does not get through a fifth of its steps in a fold's share of them is given up; 900 for detect and segment,
    which may take as long again to measure."""

    @property
    def seconds_of_images(self) -> float:
        """Of tasks that say one thing of an image."""
        return self.seconds or _SECONDS

    def shortened(self, train: TrainConfig) -> TrainConfig:
        """A training that ends in time for all folds of such a task; ``require_enough`` says whether it was enough."""
        share = self.seconds_of_images / self.folds
        return train.model_copy(update={"max_seconds": min(share, train.max_seconds or share)})


@dataclass
class Tried:
    """One way, what each image was worth when it was left out, fold by fold, and the seconds it took."""

    way: Adapt
    worth: dict[int, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    given_up: str = ""
    """Why it is not tried any more."""

    @property
    def score(self) -> float | None:
        """Mean over images; None where there was no time for it."""
        values = [value for fold in self.worth.values() for value in fold]
        return float(np.mean(values)) if values else None

    def as_json(self) -> dict[str, Any]:
        """For ``metrics.json``."""
        way = self.way.model_dump(mode="json")
        figures = {"score": self.score, "folds": len(self.worth), "seconds": round(self.seconds, 1)}
        return {"way": way, **figures, "given_up": self.given_up}


@dataclass(frozen=True)
class Choice:
    """The way taken, and all that were tried, the yardstick first."""

    way: Adapt
    tried: tuple[Tried, ...]


def choose(
    config: Auto, support: Sequence[Sample], trial: Trial, *, seed: int, seconds: float, shown: Shown | None = None
) -> Choice:
    """Try the ways on folds of the labelled images until all are done or ``seconds`` have gone.

    ``shown`` are the classes of each image, where its label does not say them.
    """
    folds = folds_of(support, config.folds, seed=seed, shown=shown)
    tried = (Tried(Frozen()), *(Tried(way) for way in config.ways if way.kind != "frozen"))
    start = time.monotonic()
    for number, fold in enumerate(folds):
        held = set(fold)
        learnt = [s for s in support if s not in held]
        for one in tried:
            spent = time.monotonic() - start
            is_late = one.way.kind != "frozen" and spent + _expected(one, tried) > seconds
            if is_late or one.given_up:
                continue
            began = time.monotonic()
            try:
                one.worth[number] = list(trial(one.way, learnt, fold, seed))
            except OutOfTimeError:
                one.given_up = "no time"
            except GpuMemoryError:
                one.given_up = "no memory on the GPU"
            except SettingsError as error:  # not for this network; the others may be
                one.given_up = str(error)
            one.seconds += time.monotonic() - began
    return Choice(_best(tried), tried)


def _expected(one: Tried, tried: Sequence[Tried]) -> float:
    """Seconds of its next trial: as its own so far, else as the longest of the others."""
    known = [one] if one.worth else [other for other in tried if other.worth]
    return max((other.seconds / len(other.worth) for other in known), default=0.0)


def _best(tried: Sequence[Tried]) -> Adapt:
    """The way that wins by the most.

    A few images of a class cannot show that a small gain is more than chance, nor that it is not: no margin is asked.
    """
    plain = tried[0]
    best, gain = plain.way, 0.0
    for one in tried[1:]:
        both = plain.worth.keys() & one.worth.keys()
        pairs = [b - a for n in sorted(both) for a, b in zip(plain.worth[n], one.worth[n], strict=True)]
        if len(pairs) < 2:
            continue
        if float(np.mean(pairs)) > gain:
            best, gain = one.way, float(np.mean(pairs))
    return best


def told_way(way: Adapt) -> str:
    """A way and its settings, for a table."""
    return ", ".join(f"{name} {value}" for name, value in way.model_dump().items())


def tried_ways(page: Page, choice: Choice, *, measure: str) -> None:
    """A table of what was tried, and what was taken."""
    page.section(
        "What was tried",
        f"Each way on folds of the labelled images, measured on those left out: {measure}. The best is taken, on so "
        "few images often by a hair.",
    )
    rows = [
        (
            told_way(one.way),
            (one.given_up or "no time") if one.score is None else f"{one.score:.3f}",
            str(len(one.worth)),
            f"{one.seconds:.0f}",
            "taken" if one.way == choice.way else "",
        )
        for one in choice.tried
    ]
    page.table(["way", "worth", "folds", "seconds", ""], rows)
