"""How training went, as curves."""

from collections.abc import Mapping, Sequence

import numpy as np

from pangu_cv.report.page import Page, Plot
from pangu_cv.report.plots import lines

SMOOTHED_STEPS = 15


def training_curves(page: Page, losses: Mapping[str, Sequence[float]], *, seconds: float, saved: float = 0.0) -> None:
    """A section with a smoothed curve per loss; nothing where nothing was trained.

    ``saved``: the share of the blocks' steps that freezing spared.
    """
    if not losses or not next(iter(losses.values())):
        return
    steps = len(next(iter(losses.values())))
    spared = f" Blocks that had settled were frozen, which spared {saved:.0%} of the blocks' steps." if saved else ""
    over = f"means over {min(SMOOTHED_STEPS, steps)} steps"
    page.section("Training", f"{steps} steps in {seconds:.0f} s; {over}.{spared}")
    plots = []
    for name, values in losses.items():
        curve = smoothed(values)
        plots.append(Plot(lines({name: (range(1, len(curve) + 1), curve)}, x_label="step"), name.replace("_", " ")))
    page.plots(plots)


def smoothed(values: Sequence[float], *, over: int = SMOOTHED_STEPS) -> list[float]:
    """Moving means, shorter at the ends."""
    kernel = np.ones(min(over, len(values)))
    weight = np.convolve(np.ones(len(values)), kernel, "same")
    return [float(v) for v in np.convolve(np.asarray(values, float), kernel, "same") / weight]
