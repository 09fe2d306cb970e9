"""The page a person reads after a run: the verdict first, then how it came about, then pictures."""

import numpy as np

from pangu_cv.metrics.interval import Interval, Values
from pangu_cv.pretrain.left_out import LeftOut
from pangu_cv.pretrain.loop import Parts
from pangu_cv.pretrain.pictures import attention_rows, neighbour_rows, repair_rows, spread
from pangu_cv.pretrain.recipe import PretrainRecipe
from pangu_cv.pretrain.state import State
from pangu_cv.pretrain.verdict import Verdict
from pangu_cv.report.page import Page, Plot, Tile
from pangu_cv.report.plots import intervals, lines
from pangu_cv.report.training import SMOOTHED_STEPS, smoothed
from pangu_cv.runs import Run


def write_report(
    run: Run,
    recipe: PretrainRecipe,
    parts: Parts,
    state: State,
    found: Verdict,
    *,
    left_out: LeftOut,
    with_pictures: bool,
) -> None:
    """Write ``report.html``; the network holds the weights that were kept."""
    images = parts.feed.images
    parts.objective.eval()
    page = Page("Pretraining", f"{recipe.backbone.name} on {len(images.paths):,} images, {state.step:,} steps")
    if not found.targets:
        page.verdict(found.sentence)
    else:
        page.verdict(found.sentence, "good" if any(t.use for t in found.targets) else "warn")
    page.tiles(
        [
            Tile("images", f"{len(images.paths):,}"),
            Tile("with a label", f"{int((images.label_M >= 0).sum()):,}"),
            Tile("with a text", f"{int((images.text_M >= 0).sum()):,}"),
            Tile("best round", str(state.best), "0 is the start"),
        ]
    )
    _targets(page, state, found)
    _curves(page, recipe, state)
    if left_out.rows:
        page.section("What was left out", "Images that are there and were not learnt from.")
        page.table(["why", "images", "which"], left_out.rows)
    if with_pictures:
        _pictures(page, parts)
    page.details("The recipe", recipe.to_yaml())
    page.write(run.report)


def _targets(page: Page, state: State, found: Verdict) -> None:
    if not found.targets:
        return
    page.section(
        "Does it help?",
        "Probes on the training part of each target, the best round against the starting weights on the same draws: "
        "balanced accuracy with few labels, or image AUROC, on images that were kept from pretraining for this. Half "
        "of these chose the round, which the curves show; the others give the verdict, and its interval counts draws "
        "and images. Test images were not touched.",
    )
    rows = []
    for target in found.targets:
        band = f"[{100 * (target.gain.low or 0):+.1f}, {100 * (target.gain.high or 0):+.1f}]"
        gain = f"{100 * target.gain.mean:+.1f}"
        rows.append((target.target, f"{target.before:.1%}", f"{target.after:.1%}", gain, band, target.advice))
    page.table(["target", "before", "after", "gain, points", "95 %", "verdict"], rows)
    names = [target.target for target in found.targets]
    gained = [[100 * (s.mean - first.mean) for s, first in zip(r, state.rounds[0], strict=True)] for r in state.rounds]
    curves: dict[str, tuple[Values, Values]] = {
        name: (state.minutes, [values[position] for values in gained]) for position, name in enumerate(names)
    }
    if len(names) > 1:
        curves["mean"] = (state.minutes, [float(np.mean(values)) for values in gained])
    gains = intervals(names, [_in_points(target.gain) for target in found.targets], x_label="gain, points")
    page.plots(
        [
            Plot(lines(curves, x_label="minutes of training", y_label="gain, points"), "Gain against minutes"),
            Plot(gains, "Gain over the starting weights"),
        ]
    )


def _in_points(gain: Interval) -> Interval:
    low, high = (None if end is None else 100 * end for end in (gain.low, gain.high))
    return Interval(100 * gain.mean, low, high, gain.n)


def _curves(page: Page, recipe: PretrainRecipe, state: State) -> None:
    if not state.history:
        return
    page.section("Losses", f"Means over {SMOOTHED_STEPS} steps; a term that is not there was switched off.")
    steps = [entry["step"] for entry in state.history]
    names = [name for name in state.history[-1] if name not in ("step", "rate", "total")]
    plots = []
    for name in ["total", *names]:
        curve = smoothed([entry.get(name, float("nan")) for entry in state.history])
        plots.append(Plot(lines({name: (steps, curve)}, x_label="step", y_label=name), f"Term: {name}"))
    page.plots(plots)


def _pictures(page: Page, parts: Parts) -> None:
    numbers = spread(parts, count=6)
    page.section("What it finds alike", "Left an image, then its nearest in the same dataset by the new features.")
    page.pairs(neighbour_rows(parts, numbers))
    repaired = repair_rows(parts, numbers)
    if repaired:
        page.section(
            "What it can repair", "The decoder undoes damage, and paints in patches where the recipe hides some."
        )
        page.pairs(repaired)
    attended = attention_rows(parts, numbers)
    if attended:
        page.section("Where it looks", "Weight of the class token on each patch in the last block; dark is little.")
        page.pairs(attended)
