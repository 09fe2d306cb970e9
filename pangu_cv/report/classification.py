"""The report of a classifier, from the figures down to the images that explain them."""

from collections.abc import Callable
from pathlib import PurePath

import numpy as np

from pangu_cv.metrics import ClassificationOutcome
from pangu_cv.report import plots
from pangu_cv.report.one_vs_rest import one_vs_rest
from pangu_cv.report.page import Page, Plot, Tile
from pangu_cv.report.picture import ImageArray, Picture
from pangu_cv.report.text import counted, percent, shortened, with_band
from pangu_cv.report.unknown import unknown_section

LoadImage = Callable[[str], ImageArray]
_ERRORS_SHOWN = 18
_RIGHT_PER_CLASS = 2
_RIGHT_SHOWN = 18
_CONFUSIONS_LISTED = 8
_WELL_CALIBRATED = 0.05


def classification_report(page: Page, outcome: ClassificationOutcome, *, load_image: LoadImage) -> None:
    """Append the figures of ``outcome``, its confusions and calibration, and pictures of mistakes and of successes.

    ``load_image`` turns one of the outcome's paths into uint8 RGB; it is called for the images shown only.
    """
    _key_figures(page, outcome)
    if outcome.unknown is not None:
        unknown_section(page, outcome.unknown, classes=outcome.classes, load_image=load_image)
    _confusions(page, outcome)
    one_vs_rest(page, outcome)
    _calibration(page, outcome)
    _mistakes(page, outcome, load_image)
    _successes(page, outcome, load_image)


def _key_figures(page: Page, outcome: ClassificationOutcome) -> None:
    n, wrong, found = len(outcome.paths), int((~outcome.is_correct_N).sum()), outcome.intervals
    weakest = int(np.nanargmin(outcome.recall_per_class_C))
    present = int((outcome.confusion_CC.sum(axis=1) > 0).sum())
    page.tiles(
        [
            Tile(
                "Balanced accuracy",
                percent(outcome.balanced_accuracy),
                with_band("mean recall", found["balanced_accuracy"]),
            ),
            Tile(
                "Accuracy",
                percent(outcome.accuracy),
                with_band(f"{counted(n - wrong, 'image')} of {n} right", found["accuracy"]),
            ),
            Tile("Macro F1", percent(outcome.macro_f1), with_band("mean over classes", found["macro_f1"])),
            Tile(
                "Weakest class",
                percent(float(outcome.recall_per_class_C[weakest]), 0),
                f"recall of {shortened(outcome.classes[weakest])}",
            ),
            Tile("Calibration error", percent(outcome.expected_calibration_error()), "mean gap of stated confidence"),
        ]
    )
    if present < len(outcome.classes):
        absent = counted(len(outcome.classes) - present, "class", "classes")
        page.note(f"Of {absent} there is no image here, so no recall either.")


def _confusions(page: Page, outcome: ClassificationOutcome) -> None:
    page.section("Where it errs", "Rows are the truth, columns what the model said. Red cells are mistakes.")
    page.plots(
        [
            Plot(plots.confusion_matrix(outcome), "Confusion matrix: counts, shaded by their share of the row."),
            Plot(plots.per_class_recall(outcome), "Recall per class, the weakest first; in brackets the images."),
        ]
    )
    errors_CC = outcome.confusion_CC * ~np.eye(len(outcome.classes), dtype=bool)
    order = np.argsort(-errors_CC, axis=None, kind="stable")[:_CONFUSIONS_LISTED]
    pairs = [(i, j) for i, j in zip(*np.unravel_index(order, errors_CC.shape), strict=True) if errors_CC[i, j] > 0]
    totals_C = outcome.confusion_CC.sum(axis=1)
    rows = [
        (outcome.classes[i], outcome.classes[j], int(errors_CC[i, j]), percent(errors_CC[i, j] / totals_C[i], 0))
        for i, j in pairs
    ]
    if rows:
        page.table(["Truth", "Taken for", "Images", "Share of the class"], rows, "Most frequent confusions")


def _calibration(page: Page, outcome: ClassificationOutcome) -> None:
    error = outcome.expected_calibration_error()
    bias = float(outcome.confidence_N.mean()) - outcome.accuracy
    if error <= _WELL_CALIBRATED:
        words = (
            "Stated confidence and observed accuracy agree closely: a score of 90 % is right about nine times in ten."
        )
    elif bias > 0:
        words = f"The model is surer than it should be: on average {100 * bias:.0f} points above what it gets right."
    else:
        words = (
            f"The model is more careful than it need be: on average {-100 * bias:.0f} points below what it gets right."
        )
    page.section("Can its confidence be trusted", words)
    caption = (
        "Each dot is a range of confidence, its area the share of images. On the dashed line, confidence is honest. "
        f"Expected calibration error: {percent(error)}."
    )
    page.plot(plots.reliability_diagram(outcome), caption)


def _mistakes(page: Page, outcome: ClassificationOutcome, load_image: LoadImage) -> None:
    wrong = int((~outcome.is_correct_N).sum())
    if wrong == 0:
        page.section("Mistakes", f"None among {counted(len(outcome.paths), 'image')}.")
        return
    worst = outcome.worst_errors(_ERRORS_SHOWN)
    page.section(
        "Most confident mistakes",
        f"{len(worst)} of {counted(wrong, 'mistake')}, the surest first, as truth → prediction. "
        "Look for wrong labels among them before blaming the model.",
    )
    page.gallery([_picture(outcome, int(i), load_image) for i in worst])


def _successes(page: Page, outcome: ClassificationOutcome, load_image: LoadImage) -> None:
    order_N = np.argsort(-outcome.confidence_N, kind="stable")
    surest = order_N[outcome.is_correct_N[order_N]]
    of_class: list[list[int]] = [[] for _ in outcome.classes]
    for i, c in zip(surest.tolist(), outcome.truth_N[surest].tolist(), strict=True):
        if len(of_class[c]) < _RIGHT_PER_CLASS:
            of_class[c].append(i)
    chosen = [i for one in of_class for i in one]
    if chosen:
        page.section("What it knows best", "The surest right answers of each class.")
        page.gallery([_picture(outcome, i, load_image) for i in chosen[:_RIGHT_SHOWN]])


def _picture(outcome: ClassificationOutcome, index: int, load_image: LoadImage) -> Picture:
    path, right = outcome.paths[index], bool(outcome.is_correct_N[index])
    truth, said = (shortened(outcome.classes[c]) for c in (outcome.truth_N[index], outcome.predicted_N[index]))
    caption = truth if right else f"{truth} → {said}"
    note = f"{percent(float(outcome.confidence_N[index]))} · {PurePath(path).name}"
    return Picture(load_image(path), caption, note, "good" if right else "bad")
