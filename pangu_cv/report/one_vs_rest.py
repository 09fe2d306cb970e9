"""Every class of a classifier against the rest: how well its score finds it, whatever the other classes score."""

import numpy as np

from pangu_cv.metrics import ClassificationOutcome
from pangu_cv.report import curves
from pangu_cv.report.page import Page, Plot
from pangu_cv.report.text import decimal, percent, shortened

_MOST_LISTED = 60


def one_vs_rest(page: Page, outcome: ClassificationOutcome) -> None:
    """Append a table of all classes and curves of the weakest ones; nothing where only one class occurs."""
    rankings = [outcome.ranking(c) for c in range(len(outcome.classes))]
    precision_C = [np.inf if (ap := ranking.average_precision) is None else ap for ranking in rankings]
    weakest = [int(c) for c in np.argsort(precision_C, kind="stable")]
    drawn = {outcome.classes[c]: rankings[c] for c in weakest[: curves.MOST_CURVES] if rankings[c].has_both_kinds}
    if not drawn:
        return
    page.section("Each class against the rest", "The weakest average precision first.")
    page.table(
        ["class", "images", "recall", "precision", "F1", "average precision", "AUROC"],
        [_row(outcome, c) for c in weakest[:_MOST_LISTED]],
        f"The {_MOST_LISTED} weakest of {len(weakest)} classes; metrics.json has all." * (len(weakest) > _MOST_LISTED),
    )
    which = f"the {len(drawn)} weakest classes" if len(drawn) < len(outcome.classes) else "every class"
    page.plots(
        [
            Plot(curves.precision_recall(drawn), f"Precision against recall of {which}, one against the rest."),
            Plot(curves.roc(drawn), f"ROC of {which}: found against taken for it, at every threshold."),
        ]
    )


def _row(outcome: ClassificationOutcome, c: int) -> tuple[object, ...]:
    recall, precision, f1 = (
        percent(None if np.isnan(value_C[c]) else float(value_C[c]))
        for value_C in (outcome.recall_per_class_C, outcome.precision_per_class_C, outcome.f1_per_class_C)
    )
    ranking = outcome.ranking(c)
    areas = decimal(ranking.average_precision), decimal(ranking.auroc)
    return shortened(outcome.classes[c]), int(ranking.is_positive_N.sum()), recall, precision, f1, *areas
