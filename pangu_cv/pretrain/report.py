"""The page a person reads after a run: the verdict first, then how it came about, then pictures."""

import numpy as np

from pangu_cv.metrics.interval import Interval, Values
from pangu_cv.pretrain.left_out import LeftOut
from pangu_cv.pretrain.loop import Parts
from pangu_cv.pretrain.pictures import attention_rows, neighbour_rows, spread
from pangu_cv.pretrain.recipe import PretrainRecipe
from pangu_cv.pretrain.state import State
from pangu_cv.pretrain.verdict import Verdict
from pangu_cv.report.page import Page, Plot, Tile
from pangu_cv.report.picture import Row
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
    repaired: list[Row],
    is_whole: bool,
) -> None:
    """Write ``report.html``; the network holds the weights that were kept, and can draw where it is whole."""
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
    _targets(page, recipe, state, found)
    _curves(page, recipe, state)
    if left_out.rows:
        page.section("What was left out", "Images that are there and were not learnt from.")
        page.table(["why", "images", "which"], left_out.rows)
    if is_whole:
        _pictures(page, parts, state)
    if repaired:
        page.section("What it can repair", _repair_words(recipe, state))
        page.pairs(repaired)
    page.details("The recipe", recipe.to_yaml())
    page.write(run.report)


def _targets(page: Page, recipe: PretrainRecipe, state: State, found: Verdict) -> None:
    if not found.targets:
        return
    page.section(
        "Does it help?",
        "Probes on the training part of each target, against the starting weights on the same draws: "
        "balanced accuracy with few labels, or image AUROC, on images that were kept from pretraining for this. All of "
        f"them choose the round, as the curves show. {_judges(found)} The interval counts draws and images. "
        f"{_untouched(recipe)}{_no_better(state)}",
    )
    rows = []
    for number, target in enumerate(found.targets):
        near = " → ".join(_share(state.rounds[at][number].knn) for at in (0, state.best))
        band = f"[{100 * (target.gain.low or 0):+.1f}, {100 * (target.gain.high or 0):+.1f}]"
        gain = f"{100 * target.gain.mean:+.1f}"
        rows.append((target.target, f"{target.before:.1%}", f"{target.after:.1%}", gain, band, target.advice, near))
    if found.together is not None:
        together = _in_points(found.together)
        band = f"[{together.low or 0:+.1f}, {together.high or 0:+.1f}]"
        rows.append(("all together", "", "", f"{together.mean:+.1f}", band, "", ""))
    page.table(["target", "before", "after", "gain, points", "95 %", "verdict", "nearest neighbours' vote"], rows)
    names = [target.target for target in found.targets]
    gained = [[100 * (s.mean - first.mean) for s, first in zip(r, state.rounds[0], strict=True)] for r in state.rounds]
    curves: dict[str, tuple[Values, Values]] = {
        name: (state.minutes, [values[position] for values in gained]) for position, name in enumerate(names)
    }
    if len(names) > 1:
        curves["mean"] = (state.minutes, [float(np.mean(values)) for values in gained])
    gained_all = [*(target.gain for target in found.targets), *([found.together] if found.together else [])]
    gain_names = [*names, *(["all together"] if found.together else [])]
    gains = intervals(gain_names, [_in_points(gain) for gain in gained_all], x_label="gain, points")
    page.plots(
        [
            Plot(lines(curves, x_label="minutes of training", y_label="gain, points"), "Gain against minutes"),
            Plot(gains, "Gain over the starting weights"),
        ]
    )


def _judges(found: Verdict) -> str:
    """Which images the table and the gains below it rest on."""
    shared = [one.target for one in found.targets if not one.is_apart]
    if len(shared) == len(found.targets):
        return "They are too few to part, so the same ones judge it, and gains are a little too good."
    told = (
        "For the verdict each half of them judges the round that the other half would choose (table and gains below), "
        "so that no image speaks for its own choice."
    )
    return told + (f" Those of {', '.join(shared)} are too few for that." if shared else "")


def _untouched(recipe: PretrainRecipe) -> str:
    anew = [str(target.path) for target in recipe.targets if target.split == "anew"]
    return (
        f"Parts were drawn anew, test images among them, of {', '.join(anew)}." if anew else "No test image was seen."
    )


def _no_better(state: State) -> str:
    """Where the start is kept its own figures stand in the table, and say nothing of what training did."""
    if state.best or len(state.rounds) < 2:
        return ""
    start = np.mean([score.mean for score in state.rounds[0]])
    best = max(np.mean([score.mean for score in scores]) for scores in state.rounds[1:])
    return (
        f" No round gained anywhere (the best had {100 * (best - start):+.1f} points on the mean): the start is kept."
    )


def _share(knn: float | None) -> str:
    return "–" if knn is None else f"{knn:.1%}"


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


def _repair_words(recipe: PretrainRecipe, state: State) -> str:
    if not recipe.restores:
        return "The decoder paints in hidden patches; it was shown no damage, and undoes none."
    hidden = ", and paints in hidden patches" if recipe.objective.kind == "joint" and recipe.objective.hidden else ""
    beside = (
        " The probes measure the encoder alone, so 'pangu-cv restore' takes this state from the folder 'last'."
        if recipe.targets
        else ""
    )
    return f"The decoder undoes damage{hidden}: the state after step {state.step:,}.{beside}"


def _pictures(page: Page, parts: Parts, state: State) -> None:
    numbers = spread(parts)
    whose = "new" if state.best or not state.rounds[0] else "original"
    page.section("What it finds alike", f"Left an image, then its nearest in the same dataset by the {whose} features.")
    page.pairs(neighbour_rows(parts, numbers))
    attended = attention_rows(parts, numbers)
    if attended:
        page.section("Where it looks", "Weight of the class token on each patch in the last block; dark is little.")
        page.pairs(attended)
