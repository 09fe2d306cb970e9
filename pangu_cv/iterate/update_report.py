"""The page of an update: what was learnt, what it did to the frozen set, and pictures of every gain and loss."""

from pathlib import Path
from typing import Any

from pangu_cv.data.config import dataset_title
from pangu_cv.evaluate import Loaders, TorchDecider, test_samples
from pangu_cv.iterate.recipe import UpdateRecipe
from pangu_cv.iterate.update_classes import Judged
from pangu_cv.metrics import ClassificationOutcome
from pangu_cv.report import plots
from pangu_cv.report.anomaly import anomaly_report
from pangu_cv.report.classification import classification_report
from pangu_cv.report.comparison import comparison_report
from pangu_cv.report.disagreement import Side, disagreement_pictures
from pangu_cv.report.multilabel import multilabel_report
from pangu_cv.report.page import Page, Plot, Tile
from pangu_cv.report.skipped import add_skipped
from pangu_cv.report.text import percent, shortened
from pangu_cv.runs import Run
from pangu_cv.tasks import TaskModel
from pangu_runtime.decode import DecodeSpec

_OLD, _NEW = "before", "after"


def update_report(
    run: Run, recipe: UpdateRecipe, judged: Judged, metrics: dict[str, Any], *, spec: DecodeSpec, before: TaskModel
) -> None:
    """Write ``report.html``."""
    facts, verdict = judged.facts, judged.verdict
    page = Page(f"Update of {Path(recipe.model).name}", f"held to {dataset_title(judged.gate.path)}")
    word = "Accepted" if verdict.passes else "Refused: no model was written"
    page.verdict(f"{word}. {verdict.told()}.", "good" if verdict.passes else "bad")
    page.tiles(_tiles(metrics, facts))
    _learnt(page, judged)
    for note in judged.notes:
        page.note(note)
    samples = test_samples(judged.gate.read())
    sides = [
        Side(name, outcome, Loaders(TorchDecider(model), spec, samples))
        for name, outcome, model in ((_NEW, judged.new, judged.saved.model), (_OLD, judged.old, before))
    ]
    comparison_report(page, verdict.comparison, _NEW, _OLD)
    _classes(page, judged)
    disagreement_pictures(page, verdict.comparison, *_aligned(sides, judged))
    page.section("The model after the update", "On all of the frozen set, new classes too.")
    shown = sides[0].shown
    match judged.saved.model.config.kind:
        case "classify":
            classification_report(page, judged.new, load_image=shown.image)
        case "multilabel":
            multilabel_report(page, judged.new, load_image=shown.image)
        case _:
            loaders = Loaders(TorchDecider(judged.saved.model), spec, samples)
            anomaly_report(page, judged.new, load_image=loaders.image, load_map=loaders.map, load_mask=loaders.mask)
    add_skipped(page, judged.skipped)
    page.details("What was asked", recipe.to_yaml())
    page.write(run.report)


def _aligned(sides: list[Side], judged: Judged) -> tuple[Side, Side]:
    """The pictures of gains and losses go by the outcomes that were compared."""
    return Side(_NEW, judged.compared, sides[0].shown), sides[1]


def _tiles(metrics: dict[str, Any], facts: dict[str, Any]) -> list[Tile]:
    added = sum(facts.get("learnt", {}).values()) + sum(facts.get("hard_learnt", {}).values())
    tiles = [
        Tile("Images learnt", str(added), "the old ones were not needed"),
        Tile("Seconds", f"{metrics['seconds']:.1f}", "embedding and the gate included"),
        Tile("Memory", f"{facts['memory_mb']:.1f} MB", "sums and kept feature rows; no pictures"),
    ]
    for name, word in (("temperature", "Temperature"), ("threshold", "Threshold")):
        if facts.get(name) and facts[name][0] is not None:
            tiles.append(Tile(word, f"{facts[name][1]:.3g}", f"{facts[name][0]:.3g} before"))
    return tiles


def _learnt(page: Page, judged: Judged) -> None:
    facts = judged.facts
    page.section("What was learnt")
    if facts["task"] == "anomaly":
        missed = facts["missed"]
        counted = [
            ("normal images added", sum(facts["learnt"].values())),
            ("images taken out", len(facts["forgotten"])),
        ]
        if missed:
            counted += [
                ("missed defects made known", missed["images"]),
                ("of these flagged now", missed["flagged_now"]),
            ]
        counted.append(("patches of known defects", facts["defect_patches"]))
        page.table(["", "number"], counted)
        return
    before = {facts["renamed"].get(name, name): count for name, count in facts["counts_before"].items()}
    rows = [
        (
            shortened(name, 40),
            before.get(name, "new class"),
            facts["learnt"].get(name, 0),
            facts["hard_learnt"].get(name, 0),
            after,
        )
        for name, after in facts["counts_after"].items()
    ]
    page.table(["class", "images before", "added", "hard cases", "images now"], rows)
    if facts["corrected"]:
        page.note(f"{facts['corrected']} images learnt before have another label now.")
    if facts["renamed"]:
        page.note("Renamed: " + ", ".join(f"{old} → {new}" for old, new in facts["renamed"].items()) + ".")
    if judged.trials:
        page.section(
            "How much a hard case weighs",
            "Each kept image and each hard case was left out exactly. Taken is the lightest weight at which usual "
            "images lose nothing and hard cases are as good as they get, to one standard error.",
        )
        tried = [
            (
                f"{one.weight:g}" + " (taken)" * one.is_chosen,
                percent(one.usual_right),
                percent(one.hard_right),
                f"{one.usual_loss:.3f}",
                f"{one.hard_loss:.3f}",
            )
            for one in judged.trials
        ]
        page.table(["weight", "usual images right", "hard cases right", "loss of usual", "loss of hard"], tried)


def _classes(page: Page, judged: Judged) -> None:
    """Recall of each old class before and after, and what is confused with what."""
    old, new = judged.old, judged.compared
    if not isinstance(old, ClassificationOutcome) or not isinstance(new, ClassificationOutcome):
        return
    after = dict(zip(new.classes, new.recall_per_class_C, strict=True))
    rows = [
        (shortened(name, 40), int(count), percent(float(recall)), percent(float(after[name])))
        for name, count, recall in zip(old.classes, old.confusion_CC.sum(1), old.recall_per_class_C, strict=True)
        if count
    ]
    page.table(["class known before", "frozen images", "recall before", "recall after"], rows)
    page.plots(
        [
            Plot(plots.confusion_matrix(old), "Before: counts, shaded by their share of the row."),
            Plot(plots.confusion_matrix(judged.new), "After, new classes too."),
        ]
    )
