"""The part of a report that a line pays for: escapes against overkill, at a chosen recall and at the least cost."""

from pangu_cv.metrics.gate import SAME_IMAGES, Choice, Gate, Measured
from pangu_cv.metrics.inspection import Costs, Passage
from pangu_cv.report import curves
from pangu_cv.report.curves import Point
from pangu_cv.report.page import Page, Plot
from pangu_cv.report.text import band, counted, percent, percent_range

_FITTED = "cross-fitted"
_HEADERS = ["threshold chosen", "measured on", "threshold", "overkill, 95 %", "escapes, 95 %"]


def gate_headline(page: Page, gate: Gate | None) -> None:
    """Append the sentence that a reader wants first, where there is anything to say."""
    if gate is None or gate.measured is None:
        return
    choice = gate.measured.at_recall
    found, how = choice.cross_fitted or choice.same_images, "cross-fitted" if choice.cross_fitted else SAME_IMAGES
    page.verdict(
        f"As a gate at a recall of {100 * gate.measured.asked_recall:g} %: {percent(found.overkill.mean)} of good "
        f"images are rejected ({band(found.overkill)}), {percent(found.escapes.mean)} of defective ones pass "
        f"({band(found.escapes)}); {how}. More under “Escapes and overkill”."
    )


def gate_report(page: Page, gate: Gate | None) -> None:
    """Append figures and curves, or why there are none; None is a classifier without a class of good images."""
    page.section(
        "Escapes and overkill",
        "The model as a gate: an image is rejected at or above a threshold. Escapes are defective images that pass, "
        "overkill good images that are rejected.",
    )
    if gate is None:
        page.note("Which images are good is not known; --good CLASS names the class of good images.")
        return
    inspection, measured = gate.inspection, gate.measured
    if measured is None:
        page.note(f"Not measured: {inspection.undefined}.")
        return
    if _rejects_all(measured.at_recall):
        page.verdict(f"Recall {100 * measured.asked_recall:g} % is reached by rejecting every image only.", "bad")
    page.table(_HEADERS + ["cost of 1000"] * bool(measured.costs), _rows(measured), _told(gate))
    page.note(
        "A threshold chosen on the images it is measured on flatters itself; the cross-fitted rows are honest. "
        "The images are halved at random, and each half is measured with the threshold that the other half chose."
    )
    page.plots(_drawings(gate, measured))


def _told(gate: Gate) -> str:
    inspection = gate.inspection
    defective = int(inspection.is_defect_N.sum())
    kinds = f"{counted(defective, 'defective image')}, {len(inspection.is_defect_N) - defective} good"
    prevalence = f"; costs are at this set's share of defective images, {percent(inspection.prevalence)}"
    costs = gate.measured.costs if gate.measured else None
    return f"Score: {inspection.score_is}. {kinds}{prevalence if costs else ''}."


def _rejects_all(choice: Choice) -> bool:
    return choice.same_images.overkill.mean == 1


def _rows(measured: Measured) -> list[tuple[object, ...]]:
    named = [(f"for recall {100 * measured.asked_recall:g} %", measured.at_recall)]
    if measured.costs and measured.at_least_cost:
        prices = f"{measured.costs.escape:g} : {measured.costs.overkill:g}"
        named.append((f"for least cost, {prices}", measured.at_least_cost))
    rows = [_row("by the model", "all images", measured.at_own, measured.costs)] if measured.at_own else []
    for name, choice in named:
        rows.append(_row(name, "the same images", choice.same_images, measured.costs))
        if choice.cross_fitted:
            rows.append(_row(name, _FITTED, choice.cross_fitted, measured.costs))
        else:
            rows.append((name, "too few images to cross-fit", *["–"] * (3 + bool(measured.costs))))
    return rows


def _row(name: str, measured_on: str, passage: Passage, costs: Costs | None) -> tuple[object, ...]:
    thresholds = " and ".join(f"{threshold:.4g}" for threshold in passage.thresholds)
    cells = [f"{percent(one.mean)} ({percent_range(one)})" for one in (passage.overkill, passage.escapes)]
    return (name, measured_on, thresholds, *cells, *([f"{passage.cost_per_1000(costs):.4g}"] if costs else []))


def _drawings(gate: Gate, measured: Measured) -> list[Plot]:
    named = [("at the model's threshold", measured.at_own), ("at the asked recall", measured.at_recall.same_images)]
    if measured.at_least_cost:
        named.append(("at the least cost", measured.at_least_cost.same_images))
    points = [Point(name, one.overkill.mean, one.escapes.mean) for name, one in named if one]
    drawing = curves.escapes_over_overkill(gate.inspection, points)
    plots = [Plot(drawing, "Every balance that a threshold can strike on these images.")]
    if measured.costs and measured.at_least_cost:
        [chosen] = measured.at_least_cost.same_images.thresholds
        drawing = curves.cost_over_threshold(gate.inspection, measured.costs, chosen)
        plots.append(Plot(drawing, "What 1000 images cost at each threshold, with as many defective ones as here."))
    return plots
