"""Curves over all thresholds: what is found against what it costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pangu_cv.metrics.bootstrap import Floats
from pangu_cv.metrics.inspection import Costs, Inspection, cost_per_image_S
from pangu_cv.metrics.interval import Interval
from pangu_cv.metrics.ranking import Ranking
from pangu_cv.report.canvas import canvas
from pangu_cv.report.palette import CURVES, LIGHT
from pangu_cv.report.plots import as_percent
from pangu_cv.report.text import shortened

MOST_CURVES = len(CURVES)  # beyond, colours repeat and nobody can follow


@dataclass(frozen=True, slots=True)
class Point:
    """A marked place of a curve, in the order of the legend."""

    label: str
    x: float
    y: float


def precision_recall(rankings: Mapping[str, Ranking]) -> str:
    """Precision against recall by name; a single curve has a dotted line at the share of positive images."""
    floor = next(iter(rankings.values())).is_positive_N.mean() if len(rankings) == 1 else None
    series = {name: ranking.precision_recall() for name, ranking in rankings.items()}
    return shares(series, x_label="recall", y_label="precision", level_y=floor)


def roc(rankings: Mapping[str, Ranking]) -> str:
    """Share of positive images found against share of the others taken for them, by name."""
    series = {name: ranking.roc() for name, ranking in rankings.items()}
    return shares(series, x_label="others taken for it", y_label="share that was found")


def escapes_over_overkill(inspection: Inspection, points: Sequence[Point]) -> str:
    """Defective images that pass against good ones that are rejected, at every threshold, with marked points."""
    curve = inspection.curve
    return shares(
        {"": (curve.overkill_S, curve.escapes_S)},
        x_label="overkill: good images rejected",
        y_label="escapes: defective images passed",
        points=points,
    )


def cost_over_threshold(inspection: Inspection, costs: Costs, chosen: float) -> str:
    """Cost of 1000 images at every threshold, with the one chosen."""
    threshold, cost = _steps(inspection, 1000 * cost_per_image_S(inspection, costs))
    with canvas(height_in=4.2) as board:
        axes = board.axes
        axes.step(threshold, cost, where="pre", color=LIGHT["accent"], linewidth=1.8)
        axes.axvline(chosen, color=LIGHT["bad"], linewidth=1.2, linestyle=(0, (4, 3)))
        above = axes.get_xaxis_transform()
        axes.text(chosen, 1.02, "least cost", transform=above, ha="center", color=LIGHT["bad"])
        axes.set(xlabel="threshold", ylabel="cost of 1000 images")
        axes.set_ylim(bottom=0)
        axes.grid(True, axis="y")
    return board.svg


def _steps(inspection: Inspection, cost_S: Floats) -> tuple[Floats, Floats]:
    """Rising thresholds, each with the cost that holds from the one before it, itself left out, up to it.

    Costs change at the scores, as an image is rejected at a threshold that its score reaches. The first and the last
    threshold give room to the two ends, where every image and where none is rejected.
    """
    score = np.unique(inspection.scores_N.astype(np.float64))
    room = 0.05 * (score[-1] - score[0] or max(score[-1], 1.0))
    threshold = np.concatenate([[max(0.0, score[0] - room)], score, [score[-1] + room]])
    return threshold, np.concatenate([cost_S[-1:], cost_S[::-1]])


def over_cost(points: Sequence[tuple[float, Interval]], *, x_label: str, y_label: str = "balanced accuracy") -> str:
    """Shares with their intervals, in the order in which they were reached, against what had been spent by then."""
    with canvas() as board:
        axes = board.axes
        x = [cost for cost, _ in points]
        axes.plot(x, [share.mean for _, share in points], "o-", color=LIGHT["accent"], linewidth=1.8, markersize=6)
        for cost, share in points:
            if share.low is not None and share.high is not None:
                axes.vlines(cost, share.low, share.high, color=LIGHT["accent"], alpha=0.45, linewidth=2.5)
        axes.set(xlim=(0, 1.06 * max(x)), ylim=(-0.02, 1.02), xlabel=x_label, ylabel=y_label)
        as_percent(axes, y=True)
        axes.grid(True, axis="y")
    return board.svg


def shares(
    series: Mapping[str, tuple[Floats, Floats]],
    *,
    x_label: str,
    y_label: str,
    level_y: float | None = None,
    points: Sequence[Point] = (),
) -> str:
    """Curves in the unit square, by name; a legend where there is more than one thing to tell apart."""
    with canvas(height_in=4.2) as board:
        axes = board.axes
        for (name, (x, y)), colour in zip(series.items(), CURVES, strict=False):
            label = " " + shortened(name)  # matplotlib hides names that begin with an underscore
            axes.plot(x, y, color=LIGHT[colour], linewidth=1.8, label=label if name else None)
        if level_y is not None:
            axes.axhline(level_y, color=LIGHT["muted"], linewidth=1, linestyle=(0, (1, 3)))
        for point, colour in zip(points, CURVES[1:], strict=False):
            axes.plot(point.x, point.y, "o", color=LIGHT[colour], markersize=9, zorder=4, label=" " + point.label)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x_label, ylabel=y_label)
        as_percent(axes, x=True, y=True)
        axes.grid(True)
        if points or len(series) > 1:
            axes.legend(labelcolor=LIGHT["ink"])
    return board.svg
