"""Fit taggers to draws of a few images that show each class, measure them on the test images, save the first."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pangu_cv.data.config import dataset_title
from pangu_cv.data.few_shot import draw
from pangu_cv.data.sample import Sample
from pangu_cv.data.shown import classes_shown
from pangu_cv.errors import DataError
from pangu_cv.evaluate import require_known
from pangu_cv.finetune.all_draws import headline, same_images
from pangu_cv.finetune.auto import tried_ways
from pangu_cv.finetune.draws import Parts, draw_support, parts_of, torn_note
from pangu_cv.finetune.fitted import Fitted, figures_of, finish_report, save_first
from pangu_cv.finetune.folds import Shown
from pangu_cv.finetune.multilabel_frozen import fit_draws
from pangu_cv.finetune.multilabel_trained import SEEN, WORTH, fit_draws_trained
from pangu_cv.finetune.recipe import FinetuneRecipe, FinetuneResult
from pangu_cv.finetune.remarks import remarks
from pangu_cv.metrics.interval import mean_interval
from pangu_cv.metrics.multilabel import MultilabelOutcome
from pangu_cv.report.multilabel import multilabel_report
from pangu_cv.report.page import Page
from pangu_cv.runs import Run
from pangu_cv.tasks.multilabel import MultilabelConfig
from pangu_runtime.decode import decode


def finetune_multilabel(recipe: FinetuneRecipe, task: MultilabelConfig) -> FinetuneResult:
    """Run the recipe; raises PanguError for what the user can mend."""
    dataset = recipe.data.read()
    shown = classes_shown(dataset)
    pool, test = parts_of(dataset, lambda s: s in shown, needs="boxes or a label")
    classes = tuple(sorted(frozenset().union(*(shown[s] for s in pool))))
    if not classes:
        raise DataError(f"{dataset.root}: no image of the training part shows a class")
    require_known({s: shown[s] for s in test}, classes)
    shots = recipe.few_shot.shots
    draws = [draw_shown(pool, test, shown, shots=shots, seed=seed) for seed in recipe.few_shot.seeds]
    run = Run.start(recipe.output, name="multilabel", recipe=recipe)
    is_frozen = recipe.adapt.kind == "frozen"
    fitted, memory = (fit_draws if is_frozen else fit_draws_trained)(task, recipe, classes, draws, shown)
    save_first(fitted[0], recipe, dataset, run, memory=memory)
    torn = torn_note([(set(test).difference(measured), measured) for _, measured in draws], shown.__getitem__)
    told = [*torn, *same_images(draws), *one_sided(fitted[0].support, shown, classes)]
    told += [SEEN] if fitted[0].history.losses else []
    metrics = _metrics(fitted) | remarks(fitted[0].model.backbone.source, recipe, [*dataset.notes, *told])
    run.write_metrics(metrics)
    _report(run, recipe, fitted, metrics)
    return FinetuneResult(run.folder, run.model, run.report, metrics)


def draw_shown(pool: Sequence[Sample], test: Sequence[Sample], shown: Shown, *, shots: int | None, seed: int) -> Parts:
    """Images that show each class ``shots`` times and as many that do not (None: all), and those that are measured."""
    support, measured = draw_support(pool, test, shown, shots=shots, seed=seed)
    if shots is not None:
        support = _with_absences(support, pool, shown, shots=shots, seed=seed)
    groups = {s.group for s in support if s.group is not None}
    seen = set(support)
    left = tuple(s for s in measured if s not in seen and s.group not in groups)
    if not left:
        raise DataError("no image is left to measure on; lower few_shot.shots or add a test split")
    return support, left


def _with_absences(
    support: Sequence[Sample], pool: Sequence[Sample], shown: Shown, *, shots: int, seed: int
) -> tuple[Sample, ...]:
    """The images and more, until ``shots`` show nothing at all and as many lack each class; fewer where there are."""
    chosen = dict.fromkeys(support)
    classes = sorted(frozenset().union(*(shown[s] for s in support)))
    for absent in (frozenset(classes), *(frozenset({name}) for name in classes)):
        lacking = shots - sum(not shown[s] & absent for s in chosen)
        if lacking <= 0:  # most often, what shows other classes lacks this one: no need to go through the pool
            continue
        fitting = {replace(s, label="absent"): s for s in pool if not shown[s] & absent}
        order = [fitting[one] for one in draw(list(fitting), shots=len(fitting), seed=seed)] if fitting else []
        chosen |= dict.fromkeys([s for s in order if s not in chosen][:lacking])
    return tuple(chosen)


def one_sided(support: Sequence[Sample], shown: Shown, classes: Sequence[str]) -> list[str]:
    """A sentence for the classes that every labelled image shows: nothing teaches what their absence looks like."""
    always = [name for name in classes if all(name in shown[s] for s in support)]
    if not always:
        return []
    return [f"every labelled image shows {', '.join(always)}: label images without, or it is found everywhere"]


def _metrics(fitted: Sequence[Fitted[MultilabelOutcome]]) -> dict[str, Any]:
    known = [one.outcome.mean_ap for one in fitted if one.outcome.mean_ap is not None]
    return {
        "task": "multilabel",
        "mean_ap": mean_interval(known).as_json() if known else None,
        **figures_of(fitted),
    }


def _report(
    run: Run, recipe: FinetuneRecipe, fitted: Sequence[Fitted[MultilabelOutcome]], metrics: Mapping[str, Any]
) -> None:
    first, spec = fitted[0], recipe.data.decode_spec
    images = f"{len(first.support)} labelled images, measured on {len(first.outcome.paths)}"
    images += "" if recipe.adapt.kind == "frozen" else f"; adapted: {recipe.adapt.kind}"
    page = Page(f"Labels of {dataset_title(recipe.data.path)}", f"{len(first.outcome.classes)} classes from {images}")
    headline(page, metrics, {"mean_ap": "Mean AP"})
    multilabel_report(page, first.outcome, load_image=lambda path: decode(Path(path), spec=spec))
    if first.choice:
        tried_ways(page, first.choice, measure=WORTH)
    rows = [(_share(one.outcome.mean_ap), _share(one.outcome.micro_f1)) for one in fitted]
    finish_report(page, run, recipe, fitted, columns=["mean AP", "micro F1"], rows=rows, skipped=first.skipped)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
