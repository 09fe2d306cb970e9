"""The report of a tagger: figures, a row per class, curves, then images with what was found, missed and imagined."""

from collections.abc import Callable
from pathlib import PurePath

import numpy as np

from pangu_cv.metrics.multilabel import MultilabelOutcome
from pangu_cv.report import curves, plots
from pangu_cv.report.page import Page, Plot, Tile
from pangu_cv.report.picture import ImageArray, Picture
from pangu_cv.report.text import percent, percent_range, shortened

LoadImage = Callable[[str], ImageArray]
_SHOWN = 12


def multilabel_report(page: Page, outcome: MultilabelOutcome, *, load_image: LoadImage) -> None:
    """Append figures, a table, curves and pictures; ``load_image`` gives uint8 RGB of one of the outcome's paths."""
    _key_figures(page, outcome)
    _classes(page, outcome)
    _curves(page, outcome)
    _calibration(page, outcome)
    both, there, found = outcome.hits_N3.T
    errors = there + found - 2 * both
    told = f"A class counts as found from a score of {outcome.threshold:g}. + was imagined, − was missed."
    wrong = [int(i) for i in np.argsort(-errors, kind="stable") if errors[i]]
    page.section("Where it errs most", f"{len(wrong)} of {len(errors)} images have an error. {told}")
    page.gallery([_picture(outcome, i, load_image) for i in wrong[:_SHOWN]])
    right = [int(i) for i in np.argsort(-there, kind="stable") if not errors[i]]
    if right:
        page.section("Where every class was right", "Those that show the most classes first.")
        page.gallery([_picture(outcome, i, load_image) for i in right[:_SHOWN]])


def _key_figures(page: Page, outcome: MultilabelOutcome) -> None:
    interval = outcome.intervals["mean_ap"]
    band = f"95 %: {percent_range(interval)}; by chance {percent(outcome.chance_ap)}" if interval else ""
    page.tiles(
        [
            Tile("Mean AP", percent(outcome.mean_ap), band),
            Tile("Micro F1", percent(outcome.micro_f1), f"of all labels, at the threshold {outcome.threshold:g}"),
            Tile("Macro F1", percent(outcome.macro_f1), "mean over classes"),
            Tile("Exact match", percent(outcome.exact_match), "images whose every class is right"),
        ]
    )


def _classes(page: Page, outcome: MultilabelOutcome) -> None:
    page.section(
        "Classes",
        "Average precision ranks images and knows no threshold; without skill it tends to the share of images that "
        "show the class. The rest is at the threshold.",
    )
    rows = [
        (
            one["class"],
            one["images"],
            percent(share),
            *(_share(one[name]) for name in ("ap", "precision", "recall", "f1")),
        )
        for one, share in zip(outcome.per_class(), outcome.truth_NC.mean(0).tolist(), strict=True)
    ]
    page.table(["class", "images", "share", "AP", "precision", "recall", "F1"], rows)


def _curves(page: Page, outcome: MultilabelOutcome) -> None:
    weakest = [int(c) for c in np.argsort(outcome.ap_C, kind="stable") if outcome.ranking(int(c)).has_both_kinds]
    drawn = {outcome.classes[c]: outcome.ranking(c) for c in weakest[: curves.MOST_CURVES]}
    if not drawn:
        return
    page.section("At every threshold")
    which = f"the {len(drawn)} weakest classes" if len(drawn) < len(outcome.classes) else "every class"
    page.plots(
        [
            Plot(curves.precision_recall(drawn), f"Precision against recall of {which}."),
            Plot(curves.roc(drawn), f"ROC of {which}: found against taken for it, at every threshold."),
        ]
    )


def _calibration(page: Page, outcome: MultilabelOutcome) -> None:
    page.section("What a score is worth", "Where a class has a score like this one, the share of images that show it.")
    drawing = plots.calibration(outcome.reliability(10), x_label="score of a class", y_label="share that shows it")
    caption = (
        "Each dot is a range of scores, its area their share. On the dashed line a score is the chance to be there; "
        f"the mean gap is {percent(outcome.reliability().expected_error)}."
    )
    page.plot(drawing, caption)


def _share(value: object) -> str:
    return percent(value if isinstance(value, float) else None)


def _picture(outcome: MultilabelOutcome, index: int, load_image: LoadImage) -> Picture:
    truth, found = outcome.truth_NC[index], outcome.is_present_NC[index]
    words = [f"{_sign(t, f)}{name}" for name, t, f in zip(outcome.classes, truth, found, strict=True) if t or f]
    path = outcome.paths[index]
    caption, note = shortened(", ".join(words) or "nothing", 90), shortened(PurePath(path).name, 40)
    return Picture(load_image(path), caption, note, "good" if bool((truth == found).all()) else "bad")


def _sign(is_there: bool, is_found: bool) -> str:
    return "" if is_there and is_found else "−" if is_there else "+"
