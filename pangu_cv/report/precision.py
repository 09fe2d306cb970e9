"""What each step of an export bought: time, size, points; which layers int8 left alone, and what still takes time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pangu_cv.report.canvas import canvas
from pangu_cv.report.page import Page, Tile
from pangu_cv.report.palette import LIGHT
from pangu_cv.report.text import counted, shortened

_MOST_LAYERS = 30
_MOST_OPERATORS = 10


@dataclass(frozen=True)
class Step:
    """One graph; ``points`` and ``flips`` are against full precision, None where nothing may change."""

    name: str
    median_ms: float
    ratio: float
    start_ms: float
    megabytes: float
    points: float | None = None
    flips: str = "–"


@dataclass(frozen=True)
class LayerError:
    """A layer alone in int8; ``error`` is over that of all of them."""

    name: str
    operator: str
    weights: int
    error: float
    is_fp32: bool


@dataclass(frozen=True)
class Precisions:
    """All that the page shows; ``operators`` are milliseconds by precision and kind of operator."""

    steps: Sequence[Step]
    layers: Sequence[LayerError]
    operators: Mapping[str, Mapping[str, float]]
    notes: Sequence[str]


def precision_report(page: Page, found: Precisions) -> None:
    """Append the steps, the layers and the operators."""
    last = found.steps[-1]
    first = found.steps[0]
    lost = "–" if last.points is None else f"{last.points:.2f}"
    page.tiles(
        [
            Tile(f"{last.name}: times faster", f"{1 / last.ratio:.2f}", "than the plain export, timed in turn"),
            Tile("of its size", f"{last.megabytes / first.megabytes:.2f}", f"{last.megabytes:.1f} MB"),
            Tile("points lost", lost, "on the images of the control, see below"),
        ]
    )
    page.section("Step by step", "One image through each graph in turn, so that what slows the machine slows them all.")
    page.table(
        ["graph", "ms (median)", "of plain", "session start, ms", "MB", "points lost", "decisions that differ"],
        [_row(step) for step in found.steps],
    )
    page.plot(_bars(found.steps), "Time of one image and size of the file, as shares of the plain export.")
    for note in found.notes:
        page.note(note)
    if found.layers:
        _layers(page, found.layers)
    if found.operators:
        _operators(page, found.operators)


def _row(step: Step) -> tuple[object, ...]:
    points = "–" if step.points is None else f"{step.points:.2f}"
    times = (f"{step.median_ms:.2f}", f"{step.ratio:.2f}", f"{step.start_ms:.0f}")
    return (step.name, *times, f"{step.megabytes:.2f}", points, step.flips)


def _layers(page: Page, layers: Sequence[LayerError]) -> None:
    kept = sum(one.is_fp32 for one in layers)
    page.section(
        "Layers",
        f"Each layer alone in int8: how far the scores move, over how far they move with all of them. "
        f"{counted(kept, 'layer')} of {len(layers)} stayed in fp32.",
    )
    rows = [
        (one.name, one.operator, f"{one.weights:,}", f"{one.error:.3f}", "fp32" if one.is_fp32 else "int8")
        for one in layers[:_MOST_LAYERS]
    ]
    page.table(["layer", "operator", "weights", "error", "precision"], rows, "The most sensitive ones")


def _operators(page: Page, operators: Mapping[str, Mapping[str, float]]) -> None:
    page.section(
        "Where the time goes", "onnxruntime's own profile, by kind of operator: what int8 did not make faster."
    )
    rows = []
    for name, by_kind in operators.items():
        whole = max(sum(by_kind.values()), 1e-9)
        rows += [
            (name, kind, f"{ms:.2f}", f"{100 * ms / whole:.0f} %")
            for kind, ms in list(by_kind.items())[:_MOST_OPERATORS]
        ]
    page.table(["graph", "operator", "ms", "of the graph"], rows)


def _bars(steps: Sequence[Step]) -> str:
    first, places = steps[0], np.arange(len(steps))
    with canvas(height_in=max(1.8, 0.9 + 0.5 * len(steps))) as board:
        axes = board.axes
        sizes = [step.megabytes / first.megabytes for step in steps]
        kinds = (("time", "accent", -0.19, [step.ratio for step in steps]), ("size", "muted", 0.19, sizes))
        for name, colour, offset, shares in kinds:
            axes.barh(places + offset, shares, 0.34, color=LIGHT[colour], label=name, linewidth=0)
            for place, share in zip(places + offset, shares, strict=True):
                axes.text(share + 0.01, place, f"{share:.2f}", va="center", color=LIGHT["ink"], fontsize=8.5)
        axes.set_yticks(places, [shortened(step.name) for step in steps])
        axes.set_ylim(len(steps) - 0.4, -0.6)
        axes.set_xlim(0, 1.15 * max(1.0, *(s.ratio for s in steps)))
        axes.legend(labelcolor=LIGHT["ink"], loc="lower right")
        axes.spines[:].set_visible(False)
    return board.svg
