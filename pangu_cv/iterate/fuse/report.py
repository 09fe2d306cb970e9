"""The page a person reads: the bounds, what was tried, each class, who was believed where, where decisions part.

Shapes: M models, N images, C classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pangu_cv.data.config import dataset_title
from pangu_cv.iterate.fuse.bounds import ENSEMBLE, FUSED, LABELS, WEIGHTED, Bounds
from pangu_cv.iterate.fuse.gathering import Fused, Gathering
from pangu_cv.iterate.fuse.recipe import FuseRecipe
from pangu_cv.report.canvas import canvas
from pangu_cv.report.comparison import comparison_report
from pangu_cv.report.page import Page, Tile
from pangu_cv.report.palette import CURVES, LIGHT, Tone
from pangu_cv.report.picture import Picture
from pangu_cv.report.skipped import add_skipped
from pangu_cv.report.text import counted, percent, shortened
from pangu_cv.report.training import training_curves
from pangu_cv.runs import Run
from pangu_runtime.decode import DecodeSpec, decode

_SHOWN = 12
_ONE_POINT = 0.01
_ABOUT = {
    ENSEMBLE: "all models, each silent on classes that it does not know",
    WEIGHTED: "all models, weighed image by image",
    LABELS: "a head fitted to the labelled images, none of the models asked",
    FUSED: "the one model",
}


def write_report(
    run: Run, recipe: FuseRecipe, gathering: Gathering, fused: Fused, bounds: Bounds, notes: Sequence[str]
) -> None:
    """Write ``report.html``."""
    names = ", ".join(member.name for member in gathering.members)
    page = Page(
        f"{counted(len(gathering.members), 'model')} fused on {dataset_title(recipe.data.path)}",
        f"{names}: {counted(len(gathering.classes), 'class', 'classes')} together; {fused.way}: {fused.told}",
    )
    page.verdict(verdict(bounds), tone(bounds))
    for note in notes:
        page.note(note)
    _tiles(page, bounds)
    _bounds(page, gathering, bounds)
    _tried(page, gathering, fused)
    _per_class(page, gathering, bounds)
    if fused.weights_NM is not None and fused.beliefs_NC is not None:
        _weights(page, gathering, fused)
    training_curves(page, fused.history.losses, seconds=fused.history.seconds)
    if ENSEMBLE in bounds.against:
        comparison_report(page, bounds.against[ENSEMBLE], "the fused model", "the ensemble")
    _pictures(page, gathering, bounds, gathering.reader.spec)
    add_skipped(page, gathering.evidence.skipped)
    page.details("The recipe", recipe.to_yaml())
    page.write(run.report)


def verdict(bounds: Bounds) -> str:
    """How far the one model is from the ensemble and from the best single one, gains and losses alike."""
    cost = f"at {bounds.ratios['gflop']:.0%} of its arithmetic"
    if bounds.lost is None:
        same = percent(bounds.same)
        return f"It decides {same} of the images as the ensemble does, {cost}; without labels no more can be said."
    points, gain = 100 * bounds.lost, _gain(bounds)
    side = f"{abs(points):.1f} points {'below' if points > 0 else 'above'} the ensemble"
    best = f"{abs(100 * gain):.1f} points {'above' if gain >= 0 else 'below'} the best single model, {bounds.best}"
    where = " Both on the images that chose, which flatters." if bounds.is_flattering else ""
    helped = _weighing(bounds)
    return f"The fused model is {side} in balanced accuracy, {cost}, and {best}.{where}{helped}"


def tone(bounds: Bounds) -> Tone:
    """Good within one point of the ensemble, bad where the best single model is better, else a warning."""
    if bounds.lost is None:
        return "neutral"
    return "bad" if _gain(bounds) < 0 else "good" if bounds.lost <= _ONE_POINT else "warn"


def _gain(bounds: Bounds) -> float:
    return bounds.outcomes[FUSED].balanced_accuracy - bounds.outcomes[bounds.best].balanced_accuracy


def _weighing(bounds: Bounds) -> str:
    if WEIGHTED not in bounds.outcomes:
        return ""
    points = 100 * (bounds.outcomes[WEIGHTED].balanced_accuracy - bounds.outcomes[ENSEMBLE].balanced_accuracy)
    word = (
        f"gained {points:.1f} points"
        if points > 0.05
        else "gained nothing"
        if points > -0.05
        else f"lost {-points:.1f} points"
    )
    return f" Weighing the models image by image {word} against the plain ensemble."


def _tiles(page: Page, bounds: Bounds) -> None:
    figures = {name: percent(one.balanced_accuracy) for name, one in bounds.outcomes.items()}
    tiles = [
        Tile("Decides as the ensemble", percent(bounds.same), f"of {counted(len(bounds.evidence.samples), 'image')}")
    ]
    if figures:
        tiles = [
            Tile("Fused", figures[FUSED], "balanced accuracy"),
            Tile("Ensemble", figures[ENSEMBLE], "all models together"),
            Tile("Best single model", figures[bounds.best], bounds.best),
            *tiles,
        ]
    tiles.append(
        Tile(
            "Arithmetic",
            f"{bounds.ratios['gflop']:.0%}",
            f"{bounds.one.gflop:.2f} of {bounds.together.gflop:.2f} GFLOP",
        )
    )
    page.tiles(tiles)


def _bounds(page: Page, gathering: Gathering, bounds: Bounds) -> None:
    part = (
        "the images that chose (each left out of its head), which flatters a little"
        if bounds.is_flattering
        else "the test part"
    )
    page.section(
        "The bounds",
        f"Measured on {part}, over all classes: a model that does not know a class is wrong about its images. A cost "
        "is of one image through every backbone it has to pass, each counted once; heads cost next to nothing.",
    )
    single = bounds.together.gflop / bounds.together.backbones
    rows = []
    for name in bounds.scores:
        outcome = bounds.outcomes.get(name)
        many = name in (ENSEMBLE, WEIGHTED)
        cost = bounds.together.gflop if many else bounds.one.gflop if name in (FUSED, LABELS) else single
        about = (
            _ABOUT.get(name) or f"knows {_known(gathering, name)}{', the best single' if name == bounds.best else ''}"
        )
        figures = [percent(outcome.balanced_accuracy), percent(outcome.accuracy)] if outcome else ["–", "–"]
        same = float((bounds.scores[name].argmax(1) == bounds.scores[ENSEMBLE].argmax(1)).mean())
        rows.append((name, about, *figures, percent(same), f"{cost / bounds.together.gflop:.0%}"))
    headers = ["", "what", "balanced accuracy", "accuracy", "as the ensemble", "arithmetic"]
    page.table(headers, rows)
    costs = [
        (name, f"{cost.gflop:.2f}", f"{cost.ms:.1f}", f"{cost.params_m:.2f}", cost.backbones)
        for name, cost in ((ENSEMBLE, bounds.together), (FUSED, bounds.one))
    ]
    page.table(["", "GFLOP", "ms in torch, here", "M parameters", "backbones"], costs)


def _known(gathering: Gathering, name: str) -> str:
    found = next(m for m in gathering.members if m.name == name)
    return f"{len(found.classes)} of {len(gathering.classes)} classes"


def _tried(page: Page, gathering: Gathering, fused: Fused) -> None:
    if fused.tried:
        page.section(
            "What was tried", f"{gathering.measure}; a backbone by how near its student comes to what is believed."
        )
        rows = [(one.name, percent(one.worth), "taken" if one.is_taken else "") for one in fused.tried]
        page.table(["", "worth", ""], rows)


def _per_class(page: Page, gathering: Gathering, bounds: Bounds) -> None:
    if not bounds.outcomes:
        return
    page.section("Class by class", "Recall; a dash where a model does not know the class.")
    single = [member.name for member in gathering.members]
    joint = [name for name in bounds.outcomes if name not in single]
    recalls = {name: one.recall_per_class_C for name, one in bounds.outcomes.items()}
    rows = []
    for at, name in enumerate(gathering.classes):
        own = [percent(_defined(recalls[m.name][at]), 0) if name in m.classes else "–" for m in gathering.members]
        rows.append((shortened(name), *own, *(percent(_defined(recalls[one][at]), 0) for one in joint)))
    page.table(["class", *single, *joint], rows)


def _weights(page: Page, gathering: Gathering, fused: Fused) -> None:
    assert fused.weights_NM is not None
    assert fused.beliefs_NC is not None
    page.section(
        "Who is believed where",
        "The weights of the models over the images that taught, sorted by what is believed of them. A model that does "
        "not know a class should fade where its images are.",
    )
    believed_N = fused.beliefs_NC.argmax(1)
    names = [member.name for member in gathering.members]
    page.plot(weights_plot(fused.weights_NM, believed_N, names), "Weights, image by image; lines part the classes.")
    rows = [
        (
            shortened(name),
            int((believed_N == c).sum()),
            *(percent(w, 0) for w in fused.weights_NM[believed_N == c].mean(0)),
        )
        for c, name in enumerate(gathering.classes)
        if (believed_N == c).any()
    ]
    page.table(["believed class", "images", *names], rows, "Mean weights")


def weights_plot(weights_NM: np.ndarray, believed_N: np.ndarray, names: Sequence[str]) -> str:
    """SVG: stacked shares over the images, ordered by class and within it by the first model's weight."""
    order = np.lexsort((-weights_NM[:, 0], believed_N))
    with canvas(width_in=8.0, height_in=3.0) as board:
        axes = board.axes
        colours = [LIGHT[CURVES[at % len(CURVES)]] for at in range(len(names))]
        labels = [" " + shortened(name) for name in names]
        axes.stackplot(range(len(order)), weights_NM[order].T, colors=colours, labels=labels, linewidth=0, alpha=0.85)
        for edge in np.flatnonzero(np.diff(believed_N[order])):
            axes.axvline(edge + 0.5, color=LIGHT["paper"], linewidth=1.2)
        axes.set(xlim=(0, max(1, len(order) - 1)), ylim=(0, 1), xlabel="images, by believed class", ylabel="weight")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.22), ncols=min(4, len(names)), labelcolor=LIGHT["ink"])
    return board.svg


def _pictures(page: Page, gathering: Gathering, bounds: Bounds, spec: DecodeSpec) -> None:
    own_NC, all_NC = bounds.scores[FUSED], bounds.scores[ENSEMBLE]
    apart = np.flatnonzero(own_NC.argmax(1) != all_NC.argmax(1))
    if not len(apart):
        page.section("Where they part", "Nowhere: the fused model decides every image as the ensemble does.")
        return
    surest = apart[np.argsort(-own_NC[apart].max(1), kind="stable")][:_SHOWN]
    page.section(
        "Where they part",
        f"{len(surest)} of {counted(len(apart), 'image')} that the fused model decides otherwise than the ensemble, "
        "the surest first.",
    )
    page.gallery([_picture(gathering, bounds, int(at), spec) for at in surest])


def _picture(gathering: Gathering, bounds: Bounds, at: int, spec: DecodeSpec) -> Picture:
    sample, classes = bounds.evidence.samples[at], gathering.classes
    said = {name: int(bounds.scores[name][at].argmax()) for name in (FUSED, ENSEMBLE)}
    words = " · ".join(
        f"{name}: {shortened(classes[c], 20)} {percent(bounds.scores[name][at, c], 0)}" for name, c in said.items()
    )
    truth = int(bounds.evidence.truth_N[at])
    tones: Tone = "neutral" if truth < 0 else "good" if said[FUSED] == truth else "bad"
    caption = shortened(classes[truth]) if truth >= 0 else "not labelled"
    return Picture(decode(Path(sample.path), spec=spec), caption, f"{words} · {Path(sample.path).name}", tones)


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
