"""Classification with a backbone that is adapted to the few labels, or a linear head trained on many variants.

The backbone learns under a linear head that starts from the closed-form one (linear probing before fine-tuning, arXiv
2202.10054), so that good features are not torn down by a random head. Afterwards the head is fitted in closed form
again on what the backbone has become; where classes differ in size the trained one is kept, since its loss has seen to
them.

Shapes: B images, D features, C classes, S pixels a side.
"""

import copy
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pangu_cv.data.config import dataset_title
from pangu_cv.data.sample import Sample
from pangu_cv.features import Extraction, FeatureStore, Skipped, cache_folder, extract
from pangu_cv.finetune.all_draws import every_draw, headline, same_images
from pangu_cv.finetune.auto import Auto, Choice, Trial, choose, require_enough, tried_ways
from pangu_cv.finetune.classify import Draw, DrawResult, classes_of, decided, draws_for, once_each, stated, torn_told
from pangu_cv.finetune.closed_form import ends_in_closed_form, labelled_image, require_closed_form, shown_features
from pangu_cv.finetune.draws import Kept, is_readable
from pangu_cv.finetune.fitted import training_figures
from pangu_cv.finetune.fitting import Example, Memory, fit
from pangu_cv.finetune.kin import kin_of
from pangu_cv.finetune.recipe import FinetuneRecipe, FinetuneResult, provenance_of, skipped_json
from pangu_cv.finetune.remarks import remarks
from pangu_cv.finetune.unlabelled import Taught, features_of_others, taught_by_others, teach
from pangu_cv.finetune.unlabelled_pool import with_pools
from pangu_cv.metrics.interval import mean_interval
from pangu_cv.models.adapt import Adapt
from pangu_cv.models.training import History
from pangu_cv.progress import bar
from pangu_cv.report.classification import classification_report
from pangu_cv.report.page import Page
from pangu_cv.report.skipped import add_skipped
from pangu_cv.report.training import training_curves
from pangu_cv.report.variants import training_variants
from pangu_cv.runs import Run
from pangu_cv.tasks.class_memory import ClassMemory, remembered
from pangu_cv.tasks.classify import ClassifyConfig, ClassifyModel
from pangu_cv.tasks.learner import Learner
from pangu_cv.tasks.saved import SavedModel, parent_of, save_model
from pangu_cv.tasks.viewed import pooled
from pangu_runtime.decode import decode

# Leaving an image out of the head does not take it out of the backbone (docs/LOG.md: 7.2 % where 5 % were asked).
_SEEN = "the backbone learnt from these images too, so images of known classes may be answered unknown more often"


Remember = Callable[[], ClassMemory | None]


@dataclass(frozen=True)
class Adapted:
    """A fitted draw, its outcome, how training went, and what else was tried (with ``auto``).

    ``remember`` makes the memory of a head in closed form; it is None for one that was trained, or learnt from images
    without labels. ``taught`` is what those did, where there were any.
    """

    model: ClassifyModel
    result: DrawResult
    history: History
    skipped: tuple[Skipped, ...]
    choice: Choice | None = None
    measuring_seconds: float = 0.0
    remember: Remember | None = None
    taught: Taught | None = None


@dataclass(frozen=True)
class Fit:
    """A model fitted to labelled images, and how that went; see ``Adapted``."""

    model: ClassifyModel
    history: History
    skipped: tuple[Skipped, ...]
    remember: Remember | None
    taught: Taught | None = None


@dataclass(frozen=True)
class Start:
    """The unfitted model, and what its backbone says: of images in general, and of variants of one draw's images."""

    model: ClassifyModel
    features: FeatureStore
    variants: Memory = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: FinetuneRecipe, task: ClassifyConfig, classes: Sequence[str]) -> "Start":
        """With what earlier runs have left on disk, where the recipe allows."""
        model = task.build(classes)
        return cls(model, FeatureStore(cache_folder() if recipe.cache else None, model.fingerprint))


def finetune_classify_trained(recipe: FinetuneRecipe, task: ClassifyConfig) -> FinetuneResult:
    """Run the recipe; raises PanguError for what the user can mend."""
    dataset = recipe.data.read()
    drawn, is_solved = draws_for(recipe, task, dataset), recipe.adapt.kind == "frozen" and recipe.unlabelled is None
    draws, repeated = once_each(drawn) if is_solved else (drawn, [])
    draws = with_pools(draws, recipe, dataset)
    classes = classes_of(recipe, task, draws)
    require_closed_form(recipe, task, Counter(str(s.label) for s in draws[0].support))
    run = Run.start(recipe.output, name="classify", recipe=recipe)
    adapted: list[Adapted] = []
    start = Start.of(recipe, task, classes)
    for draw in draws:
        adapted.append(adapt_draw(task, recipe, classes, draw, start))
        if len(adapted) == 1:
            provenance = provenance_of(recipe, draw.support, dataset.root, pool=draw.pool)
            memory = adapted[0].remember() if adapted[0].remember else None
            save_model(SavedModel(adapted[0].model, provenance, parent_of(adapted[0].model), memory=memory), run.model)
            adapted[0] = replace(adapted[0], remember=None)  # it holds every feature row
    same = same_images((draw.support, draw.test) for draw in draws)
    notes = (*dataset.notes, *torn_told(draws), *repeated, *same)
    metrics = _metrics(adapted) | remarks(adapted[0].model.backbone.source, recipe, notes)
    metrics |= stated(adapted[0].model)
    run.write_metrics(metrics)
    _report(run, recipe, adapted, metrics)
    return FinetuneResult(run.folder, run.model, run.report, metrics)


def adapt_draw(
    task: ClassifyConfig, recipe: FinetuneRecipe, classes: Sequence[str], draw: Draw, start: Start
) -> Adapted:
    """Adapt to a draw, fit the head, measure on the draw's test images."""
    choice, start = None, replace(start, variants={})
    if recipe.adapt.kind == "auto":
        auto = _open_to_others(recipe.adapt, draw)
        brief = recipe.model_copy(update={"train": auto.shortened(recipe.train), "unlabelled": None})
        readable = [s for s in draw.support if is_readable(s.path, recipe.data.decode_spec)]
        trial = _trial(task, brief, classes, start)
        choice = choose(auto, readable, trial, seed=draw.seed, seconds=auto.seconds_of_images)
        recipe = recipe.with_way(choice.way)
    fitted = adapt(task, recipe, classes, draw.support, seed=draw.seed, start=start, pool=draw.pool)
    model, spec, began = fitted.model, recipe.data.decode_spec, time.perf_counter()
    with bar("measuring") as progress:
        paths = [s.path for s in draw.test]
        test = extract(
            paths,
            model,
            views=task.decision_views,
            store=start.features if recipe.adapt.kind in ("frozen", "linear") else FeatureStore(None, ""),
            decode_spec=spec,
            progress=progress,
        )
    seconds = time.perf_counter() - began
    result = DrawResult(draw, len(draw.support) - len(fitted.skipped), decided(model, draw, test))
    skipped = (*fitted.skipped, *test.skipped, *(fitted.taught.skipped if fitted.taught else ()))
    return Adapted(model, result, fitted.history, skipped, choice, seconds, fitted.remember, fitted.taught)


def _open_to_others(auto: Auto, draw: Draw) -> Auto:
    """Without the way that images without labels cannot teach, where there are any."""
    kept = tuple(way for way in auto.ways if way.kind != "linear")
    return auto.model_copy(update={"ways": kept}) if draw.pool else auto


def _trial(task: ClassifyConfig, recipe: FinetuneRecipe, classes: Sequence[str], start: Start) -> Trial:
    """What an image is worth when it was left out: half for a right answer, half its probability of the truth."""
    task = task.model_copy(update={"unknown_rate": None})  # ways are compared by their answers, not by their silence

    def trial(way: Adapt, learnt: Sequence[Sample], held: Sequence[Sample], seed: int) -> list[float]:
        tried = recipe.with_way(way)
        fitted = adapt(task, tried, classes, learnt, seed=seed, start=start)
        require_enough(fitted.history, recipe.train)
        model = fitted.model
        spec = recipe.data.decode_spec
        paths = [s.path for s in held]
        seen = extract(paths, model, views=task.decision_views, store=FeatureStore(None, ""), decode_spec=spec)
        with torch.inference_mode():
            scores, labels, _ = model.decide_from_features(torch.from_numpy(seen.features_NVD), model.threshold)
        truth = {s.path: model.classes.index(str(s.label)) for s in held}
        # Half for being right, half for the probability of the truth: thirty images alone are too coarse a measure.
        return [
            0.5 * float(labels[row] == truth[path]) + 0.5 * float(scores[row, truth[path]])
            for path, row in seen.index.items()
        ]

    return trial


def adapt(
    task: ClassifyConfig,
    recipe: FinetuneRecipe,
    classes: Sequence[str],
    support: Sequence[Sample],
    *,
    seed: int,
    start: Start,
    pool: Sequence[Path] = (),
) -> Fit:
    """A model adapted to labelled images by the recipe's way, and taught by those of ``pool``, which have no label."""
    spec = recipe.data.decode_spec
    model = copy.deepcopy(start.model)
    model.config = task
    labels = {s.path: model.classes.index(str(s.label)) for s in support}
    first = shown_features(model, support, recipe, start.features)
    readable = [s for s in support if s.path in first.index]
    label_N, kin = torch.tensor([labels[s.path] for s in readable]), kin_of(readable)

    def fit_closed_form(
        seen: Extraction, store: FeatureStore, pool: Sequence[Path]
    ) -> tuple[Taught | None, Remember | None]:
        rows_NVD = torch.from_numpy(seen.features_NVD[[seen.index[s.path] for s in readable]])
        model.fit(rows_NVD, label_N, kin)
        taught = None
        if pool and recipe.unlabelled:
            others = features_of_others(model, pool, store, spec)
            taught = teach(model, rows_NVD, readable, label_N, others, recipe.unlabelled, seed=seed)
        if taught and taught.helped:
            return taught, None
        names = [(str(s.label),) for s in readable]
        return taught, lambda: remembered(model, [s.path for s in readable], names, rows_NVD, kin)

    is_frozen = recipe.adapt.kind == "frozen"
    taught, remember = fit_closed_form(first, start.features, pool if is_frozen else ())
    if is_frozen:
        return Fit(model, History(), first.skipped, remember, taught)
    counts = Counter(label_N.tolist())
    require_closed_form(recipe, task, counts)
    loss = recipe.loss.build([counts[c] for c in range(len(classes))])
    trained, augment = Learner(model), recipe.augment.build()
    load = Kept(lambda s: labelled_image(s, spec), lambda one: one.image.nbytes)

    def make(place: int, item_seed: int) -> Example:
        shown = augment(load(readable[place]), seed=item_seed)
        return Example(model.preprocess(torch.from_numpy(shown.image)[None]), labels[readable[place].path])

    def losses_of(prepared: Tensor, parts: Sequence[Tensor], truths: list[int]) -> dict[str, Tensor]:
        return {"classes": loss(trained.head(torch.cat(list(parts), 1)), torch.tensor(truths, device=prepared.device))}

    history = fit(trained, recipe, make, losses_of, support=readable, seed=seed, read=pooled, memory=start.variants)
    if ends_in_closed_form(recipe.adapt, counts):
        fresh = FeatureStore(None, "")
        taught, remember = fit_closed_form(shown_features(model, readable, recipe, fresh), fresh, pool)
        if model.calibration:
            model.install(replace(model.calibration, caveat=_SEEN))
    else:
        model.head.settle(trained.head)
        remember = None
    return Fit(model.eval(), history, first.skipped, remember, taught)


def _metrics(adapted: Sequence[Adapted]) -> dict[str, Any]:
    skipped = tuple({s.path: s for one in adapted for s in one.skipped}.values())
    return {
        "task": "classify",
        "balanced_accuracy": mean_interval([one.result.outcome.balanced_accuracy for one in adapted]).as_json(),
        "draws": [
            {
                "seed": one.result.draw.seed,
                "labelled": one.result.labelled,
                **training_figures(one.history, one.choice),
                **({"unlabelled": one.taught.as_json(one.model.classes)} if one.taught else {}),
                **one.result.outcome.summary(),
            }
            for one in adapted
        ],
        "skipped": skipped_json(skipped),
    }


def _report(run: Run, recipe: FinetuneRecipe, adapted: Sequence[Adapted], metrics: Mapping[str, Any]) -> None:
    first, spec = adapted[0], recipe.data.decode_spec
    outcome = first.result.outcome
    subtitle = (
        f"{len(outcome.classes)} classes from {first.result.labelled} labelled images, "
        f"measured on {len(outcome.paths)}; adapted: {recipe.adapt.kind}"
    )
    page = Page(f"Classification of {dataset_title(recipe.data.path)}", subtitle)
    headline(page, metrics, {"balanced_accuracy": "Balanced accuracy"})
    classification_report(page, outcome, load_image=lambda path: decode(Path(path), spec=spec))
    if first.choice:
        tried_ways(page, first.choice, measure="half for being right, half for the probability of the truth")
    if first.taught:
        taught_by_others(page, first.taught, outcome.classes, spec)
    if first.history.losses or recipe.augment.variants:
        lost = {one.path for one in first.skipped}
        shown = next(s for s in first.result.draw.support if s.path not in lost)
        training_variants(page, recipe.augment, labelled_image(shown, spec))
    training_curves(page, first.history.losses, seconds=first.history.seconds, saved=first.history.saved)
    rows = [(f"{one.result.outcome.balanced_accuracy:.1%}", f"{one.history.seconds:.0f}") for one in adapted]
    seeds, choices = [one.result.draw.seed for one in adapted], [one.choice for one in adapted]
    every_draw(page, seeds, columns=["balanced accuracy", "training, s"], rows=rows, choices=choices)
    add_skipped(page, first.skipped)
    page.details("The recipe", recipe.to_yaml())
    page.write(run.report)
