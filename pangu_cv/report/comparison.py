"""Two models on the same images: a plain verdict and the figures behind it."""

from pangu_cv.metrics import Interval
from pangu_cv.metrics.paired import Comparison, Disagreement
from pangu_cv.report.page import Page
from pangu_cv.report.palette import Tone
from pangu_cv.report.text import counted, percent

_WORDS = {
    "ap": "AP",
    "ap50": "AP50",
    "f1": "F1",
    "image_auroc": "image AUROC",
    "mean_iou": "mean IoU",
    "macro_f1": "macro F1",
}


def verdict(comparison: Comparison, name_a: str, name_b: str) -> str:
    """Which model is better by the main figure, or that it cannot be told; and whether other figures disagree."""
    here = f"on these {counted(comparison.images, 'image')}"
    if not comparison.differences:
        return f"No main figure is defined for both models {here}."
    if comparison.is_too_small:
        found = counted(comparison.images, "image")
        found += "" if comparison.units == comparison.images else f" of {counted(comparison.units, 'group')}"
        return f"Too few images to compare by: {found}."
    (name, main), *others = comparison.differences.items()
    gap, winner = main.interval, comparison.winner
    if winner is None:
        return f"No difference can be told {here}: {_points(gap.mean)} points {_ends(gap)} of {_word(name)}."
    if winner == "b":
        gap = Interval(-gap.mean, _negative(gap.high), _negative(gap.low), gap.n)
    better = f"{name_a if winner == 'a' else name_b} is better by {_points(gap.mean)} points {_ends(gap)}"
    against = [_word(other) for other, one in others if one.winner not in (winner, None)]
    doubt = f" By {' and '.join(against)} it is worse." if against else ""
    return f"{better} of {_word(name)} {here}.{doubt}"


def comparison_report(page: Page, comparison: Comparison, name_a: str, name_b: str) -> None:
    """Append the verdict, the figures of both with their differences, and how often only one is right."""
    tone: Tone = "neutral" if comparison.winner is None else "good" if comparison.winner == "a" else "warn"
    text = "The same images for both; intervals are of the difference, pair by pair."
    page.section(f"{name_a} against {name_b}", text)
    page.verdict(verdict(comparison, name_a, name_b), tone)
    rows = [
        (_word(name), percent(one.a), percent(one.b), _points(one.interval.mean), _ends(one.interval))
        for name, one in comparison.differences.items()
    ]
    if rows:
        page.table(["figure", name_a, name_b, "difference in points", "95 %"], rows)
    if comparison.disagreement:
        _disagreement(page, comparison.disagreement, name_a, name_b)


def _disagreement(page: Page, found: Disagreement, a: str, b: str) -> None:
    counts = (found.both_right, found.only_a_right, found.only_b_right, found.neither_right)
    page.table(["both right", f"only {a} right", f"only {b} right", "neither right"], [counts], "Images")
    page.note(f"Were both equally good, a split as uneven would come about with chance {found.p_value:.2g} (McNemar).")


def _word(figure: str) -> str:
    return _WORDS.get(figure, figure.replace("_", " "))


def _ends(interval: Interval) -> str:
    return f"[{_points(interval.low)}, {_points(interval.high)}]"


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


def _points(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"
