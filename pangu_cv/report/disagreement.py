"""Images on which two models disagree, with what each made of them."""

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics import AnomalyOutcome, ClassificationOutcome
from pangu_cv.metrics.detection import DetectionOutcome
from pangu_cv.metrics.multilabel import MultilabelOutcome
from pangu_cv.metrics.paired import Comparison
from pangu_cv.report import detection, segmentation
from pangu_cv.report.heat_map import overlay
from pangu_cv.report.page import Page
from pangu_cv.report.picture import ImageArray, Picture, Row
from pangu_cv.report.text import counted, percent, shortened

_SHOWN = 6


class Shown(Protocol):
    """What a model shows of an image, by path; ``evaluate.Loaders`` is one."""

    def image(self, path: str) -> ImageArray:
        """uint8[H,W,3]."""
        ...

    def map(self, path: str) -> NDArray[np.float64]:
        """An anomaly map float64[H,W]."""
        ...

    def masks(self, path: str, classes: int) -> tuple[ImageArray, NDArray[np.uint8], NDArray[np.uint8]]:
        """Image, true and found class numbers uint8[H,W]."""
        ...


@dataclass(frozen=True)
class Side:
    """One of the two models: its name, its outcome, and what it shows."""

    name: str
    outcome: Any
    shown: Shown


def disagreement_pictures(page: Page, comparison: Comparison, a: Side, b: Side) -> None:
    """Append a section of the images that each model does better; images are loaded only where they are shown."""
    for title, places in _chosen(comparison, a, b):
        if not len(places):
            continue
        pairs = [(int(comparison.index_a_P[i]), int(comparison.index_b_P[i])) for i in places[:_SHOWN]]
        page.section(title, f"{len(pairs)} of {counted(len(places), 'image')}.")
        if isinstance(a.outcome, ClassificationOutcome | MultilabelOutcome):
            page.gallery([_picture(a, b, *pair) for pair in pairs])
        else:
            page.pairs([_row(a, b, *pair) for pair in pairs])


def _chosen(comparison: Comparison, a: Side, b: Side) -> list[tuple[str, NDArray[np.intp]]]:
    """Places among the common images: where only one is right, or where one is further ahead, the widest gap first."""
    index_a, index_b = comparison.index_a_P, comparison.index_b_P
    if comparison.disagreement:
        right_a, right_b = a.outcome.is_correct_N[index_a], b.outcome.is_correct_N[index_b]
        return [
            (f"Only {a.name} is right", _spread(np.flatnonzero(right_a & ~right_b))),
            (f"Only {b.name} is right", _spread(np.flatnonzero(right_b & ~right_a))),
        ]
    gap = a.outcome.f1_per_image_N[index_a] - b.outcome.f1_per_image_N[index_b]
    order = np.argsort(-gap, kind="stable")
    return [
        (f"Where {a.name} does better", order[gap[order] > 0]),
        (f"Where {b.name} does better", order[::-1][gap[order[::-1]] < 0]),
    ]


def _spread(places: NDArray[np.intp]) -> NDArray[np.intp]:
    """The same with what is shown first taken from all over the set: neighbours are often of one class."""
    first = np.unique(np.linspace(0, len(places) - 1, min(_SHOWN, len(places))).astype(int))
    return np.concatenate([places[first], np.delete(places, first)])


def _picture(a: Side, b: Side, at_a: int, at_b: int) -> Picture:
    outcome, path = a.outcome, a.outcome.paths[at_a]
    many = isinstance(outcome, MultilabelOutcome)
    truth = _named(outcome, outcome.truth_NC[at_a]) if many else outcome.classes[outcome.truth_N[at_a]]
    said = " · ".join(f"{side.name}: {_said(side.outcome, at)}" for side, at in ((a, at_a), (b, at_b)))
    return Picture(a.shown.image(path), shortened(truth), f"{said} · {PurePath(path).name}")


def _named(outcome: MultilabelOutcome, is_there_C: NDArray[np.bool_]) -> str:
    return ", ".join(name for name, there in zip(outcome.classes, is_there_C, strict=True) if there) or "nothing"


def _row(a: Side, b: Side, at_a: int, at_b: int) -> Row:
    path = str(a.outcome.paths[at_a])
    drawn = [
        Picture(_drawn(side, at, path), f"{side.name}: {_said(side.outcome, at)}")
        for side, at in ((a, at_a), (b, at_b))
    ]
    return Row((Picture(a.shown.image(path), "image"), *drawn), shortened(PurePath(path).name, 40))


def _said(outcome: Any, at: int) -> str:
    match outcome:
        case ClassificationOutcome():
            name = shortened(outcome.classes[outcome.predicted_N[at]])
            return f"{name} {percent(float(outcome.confidence_N[at]), 0)}"
        case MultilabelOutcome():
            return _named(outcome, outcome.is_present_NC[at])
        case AnomalyOutcome():
            word = "anomalous" if outcome.is_anomalous_N[at] else "normal"
            return f"{word}, score {outcome.scores_N[at]:.3g}, threshold {outcome.threshold:.3g}"
        case DetectionOutcome():
            hits, truth, found = (int(n) for n in outcome.hits_N3[at])
            told = f"{hits} of {truth} found, {found - hits} imagined"
            return " · ".join(filter(None, (told, detection.key(outcome, at))))
        case _:
            return f"F1 {percent(float(outcome.f1_per_image_N[at]))}"


def _drawn(side: Side, at: int, path: str) -> ImageArray:
    """What the model made of the image."""
    outcome = side.outcome
    match outcome:
        case AnomalyOutcome():
            vmax = float(np.max(outcome.scores_N))
            return overlay(side.shown.image(path), side.shown.map(path), threshold=outcome.threshold, vmax=vmax)
        case DetectionOutcome():
            found, truth = outcome.found[at], outcome.truth[at]
            image, names = side.shown.image(path), outcome.classes
            return detection.compared(image, truth, found, classes=names, threshold=outcome.threshold)
        case _:
            return segmentation.compared(*side.shown.masks(path, len(outcome.classes)))
