"""The drawings of a report, as SVG text; needs matplotlib (``pangu-cv[train]``)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics import AnomalyOutcome, ClassificationOutcome, Interval, Reliability
from pangu_cv.metrics.interval import Values
from pangu_cv.report.canvas import canvas
from pangu_cv.report.palette import CURVES, LIGHT
from pangu_cv.report.text import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_LABELLED = 40  # classes; beyond, names would overlap
_MOST_COUNTED = 20  # classes; beyond, counts no longer fit their cells


def confusion_matrix(outcome: ClassificationOutcome) -> str:
    """Truth in rows, prediction in columns; the shade is the share of the row, the number the count."""
    from matplotlib.patches import Rectangle

    counts_CC = outcome.confusion_CC
    share_CC = counts_CC / np.maximum(counts_CC.sum(axis=1, keepdims=True), 1)
    c = len(outcome.classes)
    side_in = float(np.clip(2.6 + 0.32 * c, 4.0, 9.0))
    with canvas(width_in=side_in + 0.8, height_in=side_in) as board:
        axes = board.axes
        for i, j in np.argwhere(counts_CC):
            shade = 0.10 + 0.90 * share_CC[i, j]
            colour = LIGHT["accent"] if i == j else LIGHT["bad"]
            axes.add_patch(Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, facecolor=colour, alpha=shade, linewidth=0))
            if c <= _MOST_COUNTED:
                ink = LIGHT["paper"] if shade > 0.55 else LIGHT["ink"]
                axes.text(j, i, str(counts_CC[i, j]), ha="center", va="center", color=ink, fontsize=9)
        names = [shortened(name, 20) for name in outcome.classes] if c <= _MOST_LABELLED else []
        axes.set_xticks(range(len(names)), names, rotation=0 if c <= 4 else 45, ha="center" if c <= 4 else "right")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlim=(-0.5, c - 0.5), ylim=(c - 0.5, -0.5), aspect="equal", xlabel="predicted", ylabel="truth")
        axes.spines[:].set_visible(False)
    return board.svg


def reliability_diagram(outcome: ClassificationOutcome, *, bins: int = 10) -> str:
    """Accuracy against confidence; the area of a dot is the share of images, the diagonal is honesty."""
    return calibration(outcome.reliability(bins), x_label="confidence of the model", y_label="share that was right")


def calibration(stats: Reliability, *, x_label: str, y_label: str) -> str:
    """What share was right of the answers given with a confidence; the area of a dot is their share."""
    full_B = stats.count_B > 0
    with canvas(height_in=4.2) as board:
        axes = board.axes
        axes.plot([0, 1], [0, 1], color=LIGHT["muted"], linewidth=1, linestyle=(0, (4, 4)))
        confidence, accuracy = stats.confidence_B[full_B], stats.accuracy_B[full_B]
        axes.vlines(confidence, confidence, accuracy, color=LIGHT["accent"], alpha=0.35, linewidth=2)
        sizes = 18 + 600 * stats.count_B[full_B] / stats.count_B.sum()
        axes.scatter(confidence, accuracy, s=sizes, color=LIGHT["accent"], alpha=0.85, linewidths=0, zorder=3)
        axes.set(xlim=(0, 1.03), ylim=(-0.03, 1.03), xlabel=x_label, ylabel=y_label)
        as_percent(axes, x=True, y=True)
        axes.grid(True)
    return board.svg


def per_class_recall(outcome: ClassificationOutcome) -> str:
    """Recall of every class that occurs, the weakest on top, each with the count behind it."""
    counts_C = outcome.confusion_CC.sum(axis=1)
    present = [i for i in np.argsort(outcome.recall_per_class_C, kind="stable") if counts_C[i] > 0]
    labels = [f"{shortened(outcome.classes[i], 22)} ({counts_C[i]})" for i in present]
    return _bars(labels, outcome.recall_per_class_C[present], "recall")


def recall_per_defect(outcome: AnomalyOutcome) -> str:
    """Share of each kind of defect that was found, the weakest on top, with 95 % intervals."""
    found = sorted(outcome.recall_per_defect.items(), key=lambda item: item[1].mean)
    return intervals([f"{kind} ({i.n})" for kind, i in found], [i for _, i in found], x_label="recall", shares=True)


def score_distribution(outcome: AnomalyOutcome, *, bins: int = 40) -> str:
    """Scores of normal images upwards and of defective ones downwards, with the threshold between decisions.

    Heights are square roots of counts, so that one false alarm is seen beside a hundred images.
    """
    scores_N = np.asarray(outcome.scores_N, dtype=np.float64)
    edges = _edges_around(outcome.threshold, scores_N, bins)
    kinds = ((~outcome.is_defect_N, 1, "accent", "normal"), (outcome.is_defect_N, -1, "bad", "defective"))
    with canvas() as board:
        axes = board.axes
        for among_N, sign, colour, name in kinds:
            height = sign * np.sqrt(np.histogram(scores_N[among_N], edges)[0])
            axes.bar(edges[:-1], height, np.diff(edges) * 0.92, align="edge", color=LIGHT[colour], linewidth=0)
            height_at, anchor = (0.99, "top") if sign > 0 else (0.01, "bottom")
            words = f"{name} ({int(among_N.sum())})"
            axes.text(1, height_at, words, transform=axes.transAxes, ha="right", va=anchor, color=LIGHT[colour])
        axes.axhline(0, color=LIGHT["muted"], linewidth=0.8)
        axes.axvline(outcome.threshold, color=LIGHT["ink"], linewidth=1.2, linestyle=(0, (4, 3)))
        above = axes.get_xaxis_transform()
        axes.text(outcome.threshold, 1.02, "threshold", transform=above, ha="center", color=LIGHT["ink"])
        _square_root_ticks(axes)
        axes.set(xlabel="anomaly score", ylabel="images")
        axes.spines["bottom"].set_visible(False)
    return board.svg


def roc_curve(outcome: AnomalyOutcome) -> str:
    """Defects found against false alarms at every threshold, with the point that the model works at.

    Raises ValueError without both kinds of image.
    """
    if not outcome.has_both_kinds:
        raise ValueError("a ROC curve needs normal and defective images")
    from sklearn.metrics import roc_curve as sklearn_roc_curve

    false_alarms, found, _ = sklearn_roc_curve(outcome.is_defect_N, outcome.scores_N)
    with canvas(height_in=4.2) as board:
        axes = board.axes
        axes.plot([0, 1], [0, 1], color=LIGHT["muted"], linewidth=1, linestyle=(0, (4, 4)))
        axes.fill_between(false_alarms, found, color=LIGHT["accent"], alpha=0.08, linewidth=0)
        axes.plot(false_alarms, found, color=LIGHT["accent"], linewidth=2)
        at = outcome.false_alarm_rate or 0.0, outcome.recall or 0.0
        axes.plot(*at, "o", color=LIGHT["bad"], markersize=9, zorder=4)
        axes.text(at[0] + 0.035, at[1] - 0.03, "at the threshold", va="top", color=LIGHT["bad"])
        axes.set(xlim=(-0.02, 1), ylim=(0, 1.02), xlabel="normal images called anomalous", ylabel="defects found")
        as_percent(axes, x=True, y=True)
        axes.grid(True)
    return board.svg


def intervals(labels: Sequence[str], intervals: Sequence[Interval], *, x_label: str = "", shares: bool = False) -> str:
    """A dot for each mean with the line of its interval, from top to bottom; ``shares`` fixes the axis to 0..100 %."""
    rows = range(len(labels))
    with canvas(height_in=_height_of(len(labels))) as board:
        axes = board.axes
        for y, interval in zip(rows, intervals, strict=True):
            if interval.low is not None and interval.high is not None:
                axes.hlines(y, interval.low, interval.high, color=LIGHT["accent"], alpha=0.45, linewidth=2.5)
            axes.plot(interval.mean, y, "o", color=LIGHT["accent"], markersize=7)
        _rows(axes, [shortened(label) for label in labels], x_label)
        if shares:
            axes.set_xlim(-0.01, 1.02)
            as_percent(axes, x=True)
    return board.svg


def lines(
    series: Mapping[str, tuple[Values, Values]], *, x_label: str = "", y_label: str = "", log_y: bool = False
) -> str:
    """Curves by name, each of x and y values; values that are not finite leave a gap."""
    with canvas() as board:
        axes = board.axes
        for i, (name, (x, y)) in enumerate(series.items()):
            finite_y = np.where(np.isfinite(y), y, np.nan)
            colour, dash = CURVES[i % len(CURVES)], ("-", "--", ":")[i // len(CURVES) % 3]
            marker = "o" if len(finite_y) == 1 else ""
            label = " " + shortened(name)  # matplotlib hides names that begin with an underscore
            axes.plot(x, finite_y, dash + marker, color=LIGHT[colour], linewidth=1.8, label=label)
        if log_y:
            logarithmic(axes, y=True)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.grid(True, axis="y")
        if len(series) > 1:
            axes.legend(labelcolor=LIGHT["ink"])
    return board.svg


def _bars(labels: Sequence[str], shares: NDArray[np.float64], x_label: str) -> str:
    with canvas(height_in=_height_of(len(labels))) as board:
        axes = board.axes
        axes.barh(range(len(labels)), np.ones(len(labels)), 0.62, color=LIGHT["card"], linewidth=0)
        axes.barh(range(len(labels)), shares, 0.62, color=LIGHT["accent"], linewidth=0)
        for y, share in enumerate(shares):
            axes.text(1.02, y, f"{100 * share:.0f} %", va="center", color=LIGHT["ink"])
        _rows(axes, labels, x_label)
        axes.grid(False)
        axes.set_xlim(0, 1.14)
        axes.set_xticks([])
    return board.svg


def _height_of(rows: int) -> float:
    return float(np.clip(0.75 + 0.34 * rows, 1.4, 14))


def _rows(axes: "Axes", labels: Sequence[str], x_label: str) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", labelcolor=LIGHT["ink"])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlabel(x_label)
    axes.grid(True, axis="x")
    axes.spines[:].set_visible(False)


def as_percent(axes: "Axes", *, x: bool = False, y: bool = False) -> None:
    """Label an axis from 0 to 1 in per cent."""
    ticks = np.linspace(0, 1, 6)
    words = [f"{100 * t:.0f} %" for t in ticks]
    if x:
        axes.set_xticks(ticks, words)
    if y:
        axes.set_yticks(ticks, words)


def logarithmic(axes: "Axes", *, x: bool = False, y: bool = False) -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2 and 5: powers of ten would be drawn as their source."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if x:
        axes.set_xscale("log")
    if y:
        axes.set_yscale("log")
    for axis in ([axes.xaxis] if x else []) + ([axes.yaxis] if y else []):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def _edges_around(threshold: float, scores_N: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """About ``bins`` equal bins over all scores, one of which begins at the threshold: no bar lies on both sides."""
    low, high = min(scores_N.min(), threshold), max(scores_N.max(), threshold)
    step = (high - low) / bins if high > low else max(abs(high), 1.0) / bins
    first, last = np.floor((low - threshold) / step), np.ceil((high - threshold) / step)
    return np.asarray(threshold + step * np.arange(first - 1, last + 2), dtype=np.float64)


def _square_root_ticks(axes: "Axes") -> None:
    """Label heights that are square roots of counts with the counts."""
    low, high = axes.get_ylim()
    counts = [c for c in (1, 5, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000) if c**0.5 <= max(-low, high)]
    heights = sorted({s * c**0.5 for c in [0, *counts] for s in (-1, 1) if low <= s * c**0.5 <= high})
    axes.set_yticks(heights, [f"{h * h:.0f}" for h in heights])
