"""Fit taggers to draws of a few images that show each class, measure them on the test images, save the first."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pangu_cv.data.config import dataset_title
from pangu_cv.data.few_shot import draw
from pangu_cv.data.sample import Sample
from pangu_cv.data.shown import classes_shown
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.evaluate import require_known, truth_of
from pangu_cv.features import Extraction, FeatureStore, cache_folder, extract
from pangu_cv.finetune.draws import Parts, draw_support, parts_of
from pangu_cv.finetune.fitted import Fitted, figures_of, finish_report, save_first
from pangu_cv.finetune.kin import kin_of
from pangu_cv.finetune.recipe import FinetuneRecipe, FinetuneResult
from pangu_cv.finetune.remarks import remarks
from pangu_cv.metrics.interval import mean_interval
from pangu_cv.metrics.multilabel import MultilabelOutcome
from pangu_cv.models.training import History
from pangu_cv.progress import bar
from pangu_cv.report.multilabel import multilabel_report
from pangu_cv.report.page import Page
from pangu_cv.runs import Run
from pangu_cv.tasks.class_memory import ClassMemory, remembered
from pangu_cv.tasks.multilabel import MultilabelConfig, MultilabelModel
from pangu_runtime.decode import decode

Shown = Mapping[Sample, frozenset[str]]


def finetune_multilabel(recipe: FinetuneRecipe, task: MultilabelConfig) -> FinetuneResult:
    """Run the recipe; raises PanguError for what the user can mend."""
    _require_frozen(recipe)
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
    fitted, memory = fit_draws(task, recipe, classes, draws, shown)
    save_first(fitted[0], recipe, dataset, run, memory=memory)
    notes = [*dataset.notes, *one_sided(fitted[0].support, shown, classes)]
    metrics = _metrics(fitted) | remarks(fitted[0].model.backbone.source, recipe, notes)
    run.write_metrics(metrics)
    _report(run, recipe, fitted, notes)
    return FinetuneResult(run.folder, run.model, run.report, metrics)


def _require_frozen(recipe: FinetuneRecipe) -> None:
    if recipe.grow_from or recipe.forget:
        raise SettingsError("grow_from and forget are for task.kind=anomaly")
    if recipe.adapt.kind != "frozen":
        raise SettingsError(
            f"adapt.kind: {recipe.adapt.kind} is not for task.kind=multilabel, whose head is fitted in closed form; "
            "leave it at frozen, and make the backbone better by 'pangu-cv pretrain' if that is not enough"
        )


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


def fit_draws(
    task: MultilabelConfig, recipe: FinetuneRecipe, classes: Sequence[str], draws: Sequence[Parts], shown: Shown
) -> tuple[list[Fitted[MultilabelOutcome]], ClassMemory | None]:
    """Embed each view of each image once, then fit and measure every draw; the memory is of the first."""
    model = task.build(classes)
    store = FeatureStore(cache_folder() if recipe.cache else None, model.fingerprint)
    spec = recipe.data.decode_spec
    support = sorted({s.path for support, _ in draws for s in support})
    tested = sorted({s.path for _, measured in draws for s in measured})
    with bar("features of the labelled images") as progress:
        seen = extract(support, model, views=task.fit_views, store=store, decode_spec=spec, progress=progress)
    with bar("features of the test images") as progress:
        test = extract(tested, model, views=task.decision_views, store=store, decode_spec=spec, progress=progress)
    readable = list({s.path: s for labelled, _ in draws for s in labelled if s.path in seen.index}.values())
    kin = dict(zip((s.path for s in readable), kin_of(readable), strict=True))
    fitted = []
    for seed, (labelled, measured) in reversed(list(zip(recipe.few_shot.seeds, draws, strict=True))):
        kept = tuple(s for s in labelled if s.path in seen.index)
        _fit(model, kept, seen, shown, kin)  # the first draw comes last, so that the model ends with its head
        outcome = decided(model, measured, test, shown)
        fitted.append(Fitted(seed, model, kept, History(), outcome, (*seen.skipped, *test.skipped)))
    first = fitted[-1].support
    names = [tuple(sorted(shown[s])) for s in first]
    memory = remembered(model, [s.path for s in first], names, _rows(seen, first), [kin[s.path] for s in first])
    return fitted[::-1], memory


def _rows(seen: Extraction, samples: Sequence[Sample]) -> Tensor:
    return torch.from_numpy(seen.features_NVD[[seen.index[s.path] for s in samples]])


def _fit(
    model: MultilabelModel, support: Sequence[Sample], seen: Extraction, shown: Shown, kin: Mapping[Path, str]
) -> None:
    present = truth_of([shown[s] for s in support], model.classes)
    lost = [name for name, count in zip(model.classes, present.sum(0), strict=True) if not count]
    if lost:
        raise DataError(f"no readable image is left of class(es) {', '.join(lost)}")
    model.fit(_rows(seen, support), torch.from_numpy(present), [kin[s.path] for s in support])


def decided(model: MultilabelModel, samples: Sequence[Sample], test: Extraction, shown: Shown) -> MultilabelOutcome:
    """What the model makes of test images."""
    kept = [s for s in samples if s.path in test.index]
    if not kept:
        raise DataError("none of the test images can be read")
    with torch.inference_mode():
        scores, present, _ = model.decide_from_features(_rows(test, kept), model.threshold)
    truth = truth_of([shown[s] for s in kept], model.classes)
    paths = tuple(str(s.path) for s in kept)
    return MultilabelOutcome(model.classes, paths, scores.numpy(), present.numpy(), truth, float(model.threshold))


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
    run: Run, recipe: FinetuneRecipe, fitted: Sequence[Fitted[MultilabelOutcome]], notes: Sequence[str]
) -> None:
    first, spec = fitted[0], recipe.data.decode_spec
    images = f"{len(first.support)} labelled images, measured on {len(first.outcome.paths)}"
    page = Page(f"Labels of {dataset_title(recipe.data.path)}", f"{len(first.outcome.classes)} classes from {images}")
    multilabel_report(page, first.outcome, load_image=lambda path: decode(Path(path), spec=spec))
    for note in notes:
        page.note(note)
    rows = [(_share(one.outcome.mean_ap), _share(one.outcome.micro_f1)) for one in fitted]
    finish_report(page, run, recipe, fitted, columns=["mean AP", "micro F1"], rows=rows, skipped=first.skipped)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
