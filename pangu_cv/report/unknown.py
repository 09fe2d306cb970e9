"""The part of a classifier's report that says what "unknown" costs and what it catches."""

from collections.abc import Callable, Sequence
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics.unknown import UNKNOWN, UnknownOutcome
from pangu_cv.report.page import Page, Tile
from pangu_cv.report.picture import ImageArray, Picture
from pangu_cv.report.text import decimal, percent, percent_range, shortened

LoadImage = Callable[[str], ImageArray]
_SHOWN = 9


def unknown_section(page: Page, outcome: UnknownOutcome, *, classes: Sequence[str], load_image: LoadImage) -> None:
    """Append the share answered, how right it was, and pictures of those turned away and those let through wrongly."""
    page.section(
        "What it calls unknown",
        f"An image whose best score is below {percent(outcome.threshold)} is answered unknown. Other parts of this "
        "report take every image of a known class as answered.",
    )
    page.tiles(_tiles(outcome))
    known, answered = outcome.is_known_N, outcome.is_answered_N
    _pictures(page, outcome, "Known classes called unknown", known & ~answered, classes, load_image)
    _pictures(page, outcome, "Other classes taken for known ones", ~known & answered, classes, load_image)


def _tiles(outcome: UnknownOutcome) -> list[Tile]:
    rate, right, caught = outcome.unknown_rate, outcome.accuracy_answered, outcome.recognised
    tiles = []
    if rate:
        asked = f"set for at most {percent(outcome.stated_rate)}; 95 %: {percent_range(rate)}"
        tiles += [Tile("Answered", percent(1 - rate.mean), f"of {rate.n} images of known classes")]
        tiles += [Tile("Unknown", percent(rate.mean), asked)]
    if right:
        tiles.append(Tile("Accuracy among answered", percent(right.mean), f"95 %: {percent_range(right)}"))
    if caught:
        told = f"of {caught.n} images of other classes; 95 %: {percent_range(caught)}; AUROC {decimal(outcome.auroc)}"
        tiles.append(Tile("Recognised as unknown", percent(caught.mean), told))
    return tiles


def _pictures(
    page: Page,
    outcome: UnknownOutcome,
    title: str,
    is_shown_N: NDArray[np.bool_],
    classes: Sequence[str],
    load_image: LoadImage,
) -> None:
    places = np.flatnonzero(is_shown_N)
    if not len(places):
        return
    surest = places[np.argsort(-outcome.confidence_N[places], kind="stable")]
    page.section(title, f"{min(len(places), _SHOWN)} of {len(places)}, the surest first.")
    page.gallery([_picture(outcome, int(i), classes, load_image) for i in surest[:_SHOWN]])


def _picture(outcome: UnknownOutcome, index: int, classes: Sequence[str], load_image: LoadImage) -> Picture:
    names = [
        "unknown" if number == UNKNOWN else shortened(classes[number])
        for number in (int(outcome.truth_N[index]), int(outcome.answer_N[index]))
    ]
    path = outcome.paths[index]
    note = f"{percent(float(outcome.confidence_N[index]))} · {PurePath(path).name}"
    return Picture(load_image(path), " → ".join(names), note, "bad")
