"""Fit classifiers to draws of a few labels, measure them on the test images, save the first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pangu_cv.data.config import dataset_title
from pangu_cv.data.few_shot import draw_split, holdout
from pangu_cv.data.readers import require_same_classes
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError
from pangu_cv.evaluate import classification_outcome
from pangu_cv.features import Extraction, FeatureStore, Skipped, cache_folder, extract
from pangu_cv.finetune.all_draws import every_draw, headline
from pangu_cv.finetune.draws import apart, parts_of, torn_note
from pangu_cv.finetune.kin import kin_of
from pangu_cv.finetune.recipe import FinetuneRecipe, FinetuneResult, provenance_of, skipped_json
from pangu_cv.finetune.remarks import remarks
from pangu_cv.metrics import ClassificationOutcome
from pangu_cv.metrics.interval import mean_interval
from pangu_cv.progress import bar
from pangu_cv.report.classification import classification_report
from pangu_cv.report.page import Page
from pangu_cv.report.skipped import add_skipped
from pangu_cv.runs import Run
from pangu_cv.tasks.class_memory import ClassMemory, remembered
from pangu_cv.tasks.classify import ClassifyConfig, ClassifyModel
from pangu_cv.tasks.saved import SavedModel, parent_of, save_model
from pangu_runtime.bundle import UNKNOWN
from pangu_runtime.decode import decode


@dataclass(frozen=True)
class Draw:
    """One draw: the labelled images seen, those measured on, and others that may teach without a label."""

    seed: int
    support: tuple[Sample, ...]
    test: tuple[Sample, ...]
    pool: tuple[Path, ...] = ()
    torn: tuple[Sample, ...] = ()
    """Test images left out, because labelled ones are of their group."""


@dataclass(frozen=True)
class DrawResult:
    """A fitted draw and its outcome on the test images."""

    draw: Draw
    labelled: int
    outcome: ClassificationOutcome


def finetune_classify(recipe: FinetuneRecipe, task: ClassifyConfig) -> FinetuneResult:
    """Run the recipe; raises PanguError for what the user can mend."""
    dataset = recipe.data.read()
    draws, repeated = once_each(draws_for(recipe, task, dataset))
    model = task.build(classes_of(recipe, task, draws))
    run = Run.start(recipe.output, name="classify", recipe=recipe)
    results, skipped, memory = fit_draws(model, draws, recipe)
    provenance = provenance_of(recipe, draws[0].support, dataset.root)
    save_model(SavedModel(model, provenance, parent_of(model), memory=memory), run.model)
    notes = (*dataset.notes, *torn_told(draws), *repeated)
    metrics = _metrics(results, skipped) | stated(model) | remarks(model.backbone.source, recipe, notes)
    run.write_metrics(metrics)
    _report(run, recipe, results, skipped, metrics)
    return FinetuneResult(run.folder, run.model, run.report, metrics)


def draws_for(recipe: FinetuneRecipe, task: ClassifyConfig, dataset: Dataset) -> list[Draw]:
    """The recipe's draws; with an unknown rate the test part may show classes that are not learnt."""
    few_shot, may_be_unknown = recipe.few_shot, task.unknown_rate is not None
    return draws_of(dataset, shots=few_shot.shots, seeds=few_shot.seeds, may_be_unknown=may_be_unknown)


def once_each(draws: Sequence[Draw]) -> tuple[list[Draw], list[str]]:
    """Draws without those of the same images as one before, and a note where there are such.

    What is solved in closed form would only repeat its figures, and an interval over repetitions has no width.
    """
    kept: dict[tuple[frozenset[Sample], frozenset[Sample]], Draw] = {}
    for draw in draws:
        kept.setdefault((frozenset(draw.support), frozenset(draw.test)), draw)
    left = len(draws) - len(kept)
    told = f"few_shot.seeds: {left} of {len(draws)} draw the same images as one before, and were left out"
    return list(kept.values()), [told] if left else []


def _tested(seed: int, support: tuple[Sample, ...], test: tuple[Sample, ...]) -> Draw:
    measured = apart(support, test)
    kept = frozenset(measured)
    return Draw(seed, support, measured, torn=tuple(s for s in test if s not in kept))


def torn_told(draws: Sequence[Draw]) -> list[str]:
    """The note on test images that were left out of the draws."""
    return torn_note([(draw.torn, draw.test) for draw in draws], lambda s: [str(s.label)])


def classes_of(recipe: FinetuneRecipe, task: ClassifyConfig, draws: Sequence[Draw]) -> tuple[str, ...]:
    """Sorted names of what is learnt; raises DataError for fewer than two, or one that is an answer of its own."""
    classes = tuple(sorted({str(s.label) for s in draws[0].support}))
    if len(classes) < 2:
        raise DataError(f"{recipe.data.path}: classify needs at least 2 classes, found {', '.join(classes)}")
    if task.unknown_rate is not None and UNKNOWN in classes:
        raise DataError(
            f"{recipe.data.path}: a class is named '{UNKNOWN}', which task.unknown_rate gives as an answer; rename the "
            "class, or leave its images out of training: in the test part they count as what should be recognised"
        )
    return classes


def stated(model: ClassifyModel) -> dict[str, Any]:
    """For ``metrics.json``: the threshold below which an image is unknown, where there is one."""
    if model.calibration is None:
        return {}
    return {"threshold": {"value": float(model.threshold), "statement": model.statement}}


def draws_of(dataset: Dataset, *, shots: int | None, seeds: Sequence[int], may_be_unknown: bool = False) -> list[Draw]:
    """Draws from what may be learnt, measured on the test split (else val; else what was not drawn).

    Test images of a group that was learnt are left out. Raises DataError where nothing is left to measure on, or a test
    class (unless it may be unknown) has no training image.
    """
    pool, test = parts_of(dataset, lambda s: s.label is not None, needs="a label")
    if test:
        if not may_be_unknown:
            require_same_classes(pool, test)
        supports = [draw_split(pool, shots=shots, seed=seed).support for seed in seeds]
        return [_tested(seed, support, test) for seed, support in zip(seeds, supports, strict=True)]
    if shots is None:
        parts = [holdout(pool, fraction=0.2, seed=seed) for seed in seeds]
        draws = [Draw(seed, part.kept, part.held_out) for seed, part in zip(seeds, parts, strict=True)]
    else:
        splits = [draw_split(pool, shots=shots, seed=seed) for seed in seeds]
        draws = [Draw(seed, split.support, split.rest) for seed, split in zip(seeds, splits, strict=True)]
    if not all(draw.test for draw in draws):
        raise DataError(f"{dataset.root}: no image is left to measure on; lower few_shot.shots or add a test split")
    return draws


def fit_draws(
    model: ClassifyModel, draws: Sequence[Draw], recipe: FinetuneRecipe
) -> tuple[list[DrawResult], tuple[Skipped, ...], ClassMemory | None]:
    """Embed each view of each image once, then fit and measure every draw.

    ``model`` ends with the first draw's head, and the memory is of that.
    """
    config = model.config
    store = FeatureStore(cache_folder() if recipe.cache else None, model.fingerprint)
    spec = recipe.data.decode_spec
    support = sorted({s.path for d in draws for s in d.support})
    tested = sorted({s.path for d in draws for s in d.test})
    with bar("features of the labelled images") as progress:
        seen = extract(support, model, views=config.fit_views, store=store, decode_spec=spec, progress=progress)
    with bar("features of the test images") as progress:
        test = extract(tested, model, views=config.decision_views, store=store, decode_spec=spec, progress=progress)
    readable = list({s.path: s for d in draws for s in d.support if s.path in seen.index}.values())
    kin = dict(zip((s.path for s in readable), kin_of(readable), strict=True))
    results = [fit_draw(model, draw, seen, test, kin) for draw in reversed(draws)]
    first = [s for s in draws[0].support if s.path in seen.index]
    names = [(str(s.label),) for s in first]
    memory = remembered(model, [s.path for s in first], names, _rows(seen, first), [kin[s.path] for s in first])
    return results[::-1], tuple({s.path: s for s in (*seen.skipped, *test.skipped)}.values()), memory


def _rows(seen: Extraction, samples: Sequence[Sample]) -> Tensor:
    return torch.from_numpy(seen.features_NVD[[seen.index[s.path] for s in samples]])


def fit_draw(
    model: ClassifyModel, draw: Draw, seen: Extraction, test: Extraction, kin: Mapping[Path, str] | None = None
) -> DrawResult:
    """Fit the head to a draw and decide its test images; images that share a name in ``kin`` belong together.

    Without it, copies and groups of this draw are looked for.
    """
    support = [s for s in draw.support if s.path in seen.index]
    lost = sorted(set(model.classes) - {str(s.label) for s in support})
    if lost:
        raise DataError(f"draw {draw.seed}: no readable image is left of class(es) {', '.join(lost)}")
    labels = torch.tensor([model.classes.index(str(s.label)) for s in support])
    model.fit(_rows(seen, support), labels, [kin[s.path] for s in support] if kin else kin_of(support))
    return DrawResult(draw, len(support), decided(model, draw, test))


def decided(model: ClassifyModel, draw: Draw, test: Extraction) -> ClassificationOutcome:
    """What the model makes of the test images of a draw."""
    kept = [s for s in draw.test if s.path in test.index]
    if not kept:
        raise DataError("none of the test images can be read")
    with torch.inference_mode():
        scores, answers, _ = model.decide_from_features(_rows(test, kept), model.threshold)
    return classification_outcome(
        kept,
        scores.numpy(),
        answers.numpy(),
        classes=model.classes,
        threshold=float(model.threshold),
        unknown_rate=model.certified_rate,
    )


def _metrics(results: Sequence[DrawResult], skipped: tuple[Skipped, ...]) -> dict[str, Any]:
    return {
        "task": "classify",
        "balanced_accuracy": mean_interval([r.outcome.balanced_accuracy for r in results]).as_json(),
        "draws": [{"seed": r.draw.seed, "labelled": r.labelled} | r.outcome.summary() for r in results],
        "skipped": skipped_json(skipped),
    }


def _report(
    run: Run,
    recipe: FinetuneRecipe,
    results: Sequence[DrawResult],
    skipped: tuple[Skipped, ...],
    metrics: Mapping[str, Any],
) -> None:
    first = results[0]
    spec = recipe.data.decode_spec
    subtitle = (
        f"{len(first.outcome.classes)} classes from {first.labelled} labelled images, "
        f"measured on {len(first.outcome.paths)}"
    )
    page = Page(f"Classification of {dataset_title(recipe.data.path)}", subtitle)
    headline(page, metrics, {"balanced_accuracy": "Balanced accuracy"})
    classification_report(page, first.outcome, load_image=lambda path: decode(Path(path), spec=spec))
    rows = [(f"{r.outcome.balanced_accuracy:.1%}", f"{r.outcome.accuracy:.1%}") for r in results]
    seeds = [r.draw.seed for r in results]
    every_draw(page, seeds, columns=["balanced accuracy", "accuracy"], rows=rows, choices=[None for _ in results])
    add_skipped(page, skipped)
    page.details("The recipe", recipe.to_yaml())
    page.write(run.report)
