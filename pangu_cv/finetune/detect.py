"""Fit detectors to draws of a few images with boxes, measure them on the test images, save the first.

Shapes: H×W pixels of an image, S×S as the network sees it, K boxes of an image, C classes.
"""

import copy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pangu_cv.data.config import dataset_title
from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError, ImageError
from pangu_cv.evaluate import TorchDecider, evaluate_detect
from pangu_cv.features import Skipped
from pangu_cv.finetune.all_draws import headline
from pangu_cv.finetune.auto import Trial, tried_ways
from pangu_cv.finetune.dense_draws import draw_dense, notes_of
from pangu_cv.finetune.draws import Kept, Parts, donor, is_readable, parts_of
from pangu_cv.finetune.fitted import Fitted, figures_of, finish_report, save_first
from pangu_cv.finetune.fitting import Example, chosen_way, fit_new_head
from pangu_cv.finetune.recipe import FinetuneRecipe, FinetuneResult
from pangu_cv.finetune.remarks import remarks
from pangu_cv.finetune.small_boxes import small_boxes
from pangu_cv.metrics.detection import DetectionOutcome
from pangu_cv.metrics.interval import mean_interval
from pangu_cv.models.adapt import Adapt
from pangu_cv.models.augment import Augment
from pangu_cv.models.box_class_losses import BoxClassLoss
from pangu_cv.models.box_head import Prototypes
from pangu_cv.models.box_prior import PARTS, PriorFit, level_sizes
from pangu_cv.models.labelled import Labelled
from pangu_cv.models.training import History
from pangu_cv.progress import bar
from pangu_cv.report.detection import detection_report
from pangu_cv.report.page import Page
from pangu_cv.report.text import percent
from pangu_cv.runs import Run
from pangu_cv.tasks.detect import DetectConfig, DetectModel
from pangu_runtime.decode import DecodeSpec, decode

Truth = tuple[Tensor, Tensor, int | None]
"""Boxes, labels, and the part of the prototypes that the image was in."""
_PRIOR_VARIANTS = 4
_PRIOR_PASSES = 240  # prototypes are means: more images make them no better, and each costs a pass of the network


def finetune_detect(recipe: FinetuneRecipe, task: DetectConfig) -> FinetuneResult:
    """Run the recipe; raises PanguError for what the user can mend."""
    dataset = recipe.data.read()
    pool, test = parts_of(dataset, lambda s: s.boxes is not None, needs="boxes")
    contents = {s: frozenset(box.label for box in s.boxes or ()) for s in pool}
    classes = tuple(sorted(set().union(*contents.values())))
    if not classes:
        raise DataError(f"{dataset.root}: no image of the training part has a box")
    tested = {box.label for s in test for box in s.boxes or ()}
    if strange := sorted(tested - set(classes)):
        raise DataError(
            f"{dataset.root}: no training image shows {', '.join(strange)}, and test images do; label training images "
            "of it, or leave it out of the test part"
        )
    shots, spec = recipe.few_shot.shots, recipe.data.decode_spec
    usable = cache(lambda sample: is_readable(sample.path, spec))
    run = Run.start(recipe.output, name="detect", recipe=recipe)
    fitted: list[Fitted[DetectionOutcome]] = []
    draws: list[Parts] = []
    for seed in recipe.few_shot.seeds:
        draws.append(draw_dense(pool, test, contents, shots=shots, seed=seed, usable=usable))
        fitted.append(fit_draw(task, recipe, classes, *draws[-1], seed=seed))
        if len(fitted) == 1:
            save_first(fitted[0], recipe, dataset, run)
    told = (*notes_of(draws, test, contents, shots=shots), *small_boxes(fitted[0].support, task, spec))
    metrics = _metrics(fitted) | remarks(fitted[0].model.backbone.source, recipe, (*dataset.notes, *told))
    run.write_metrics(metrics)
    _report(run, recipe, fitted, metrics)
    return FinetuneResult(run.folder, run.model, run.report, metrics)


def fit_draw(
    task: DetectConfig,
    recipe: FinetuneRecipe,
    classes: Sequence[str],
    support: Sequence[Sample],
    test: Sequence[Sample],
    *,
    seed: int,
) -> Fitted[DetectionOutcome]:
    """Train on a draw and measure."""
    spec = recipe.data.decode_spec
    readable, lost = _readable(support, classes, spec)
    contents = {s: frozenset(box.label for box in s.boxes or ()) for s in readable}
    recipe, choice = chosen_way(recipe, readable, lambda brief: _trial(task, brief, classes), seed=seed, shown=contents)
    model, history = fit_boxes(task, recipe, classes, readable, seed=seed)
    with bar("measuring") as progress:
        found = evaluate_detect(TorchDecider(model), test, classes=classes, decode_spec=spec, progress=progress)
    shown = tuple(labelled(decode(s.path, spec=spec), s, classes) for s in readable if s.boxes)[:2]
    return Fitted(seed, model, tuple(readable), history, found.outcome, (*lost, *found.skipped), shown, choice)


def _trial(task: DetectConfig, recipe: FinetuneRecipe, classes: Sequence[str]) -> Trial:
    """An image left out is worth its own AP50; without boxes 1, less the score of the best box imagined."""

    def trial(way: Adapt, learnt: Sequence[Sample], held: Sequence[Sample], seed: int) -> list[float]:
        tried = recipe.with_way(way)
        model, _ = fit_boxes(task, tried, classes, learnt, seed=seed)
        decider, spec = TorchDecider(model), recipe.data.decode_spec
        found = [evaluate_detect(decider, [one], classes=classes, decode_spec=spec).outcome for one in held]
        return [1 - _most(one.found[0].score_K) if one.ap50 is None else one.ap50 for one in found]

    return trial


def _most(score_K: np.ndarray[Any, Any]) -> float:
    return float(score_K.max(initial=0.0))


def _readable(
    support: Sequence[Sample], classes: Sequence[str], spec: DecodeSpec
) -> tuple[list[Sample], list[Skipped]]:
    readable, lost = [], []
    for sample in support:
        try:
            decode(sample.path, spec=spec)
            readable.append(sample)
        except ImageError as error:
            lost.append(Skipped(sample.path, error.reason, str(error)))
    shown = {box.label for sample in readable for box in sample.boxes or ()}
    if unseen := [name for name in classes if name not in shown]:
        first = f"; first: {lost[0].message}" if lost else ""
        raise DataError(f"no readable image is left of class(es) {', '.join(unseen)}{first}")
    return readable, lost


def labelled(image: np.ndarray[Any, Any], sample: Sample, classes: Sequence[str]) -> Labelled:
    """An image with the boxes of its sample."""
    boxes = sample.boxes or ()
    corners = np.array([box.xyxy for box in boxes], np.float32).reshape(-1, 4)
    return Labelled(image, None, corners, np.array([list(classes).index(box.label) for box in boxes], np.int64))


def fit_boxes(
    task: DetectConfig, recipe: FinetuneRecipe, classes: Sequence[str], support: Sequence[Sample], *, seed: int
) -> tuple[DetectModel, History]:
    """A model trained on readable images with boxes."""
    spec = recipe.data.decode_spec
    load = Kept(lambda s: labelled(decode(s.path, spec=spec), s, classes), lambda one: one.image.nbytes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = task.build(classes)
    shown = Counter(box.label for sample in support for box in sample.boxes or ())
    class_loss = BoxClassLoss.build(recipe.loss, [shown[name] for name in classes])
    preprocess = copy.deepcopy(model.preprocess)  # stays with the images when the model moves to a GPU
    augment = recipe.augment.build(tile_px=task.tile.px if task.tile else None)
    several = [support[at] for at in np.linspace(0, len(support) - 1, min(len(support), _PRIOR_PASSES)).astype(int)]
    parts = parts_apart(several)
    others = start(model, (load(sample) for sample in several), augment, parts=parts, seed=seed)
    part_of = dict(zip(several, parts, strict=True))

    def make(place: int, item_seed: int) -> Example:
        other = donor(support, load, place=place, chance=recipe.augment.paste, seed=item_seed)
        made = example(augment(load(support[place]), seed=item_seed, donor=other), preprocess)
        return replace(made, truth=(*made.truth, part_of.get(support[place])))

    def losses_of(prepared: Tensor, grids: Sequence[Tensor], truths: list[Truth]) -> dict[str, Tensor]:
        device = prepared.device
        priors = [
            (model.head.prototypes if part is None else others[part].to(device)).scores([g[at : at + 1] for g in grids])
            for at, (_, _, part) in enumerate(truths)
        ]
        dense = model.head(prepared, grids, torch.cat(priors))
        found = [(boxes.to(device), label.to(device)) for boxes, label, _ in truths]
        return model.losses(dense, found, classes=class_loss)

    history = fit_new_head(model, recipe, make, losses_of, support=support, seed=seed)
    return model, history


def parts_apart(samples: Sequence[Sample]) -> list[int]:
    """The part of the prototypes that each image is in: they go round the parts, those of one group together."""
    units: dict[object, int] = {}
    unit_N = [units.setdefault(at if s.group is None else s.group, len(units)) for at, s in enumerate(samples)]
    return [unit % min(PARTS, len(units)) for unit in unit_N]


@torch.no_grad()
def start(
    model: DetectModel, support: Iterable[Labelled], augment: Augment, *, parts: Sequence[int], seed: int
) -> list[Prototypes]:
    """Prototypes and sizes from the boxes of labelled images, seen in a few variants each.

    ``parts`` are the images' parts, numbered from 0. Returns, for each part, the prototypes of the others.
    """
    variants = max(1, min(_PRIOR_VARIANTS, _PRIOR_PASSES // len(parts)))
    size: dict[str, int] = {"features": len(model.head.prior_mean), "classes": len(model.classes)}
    fits = [PriorFit(**size) for _ in range(max(parts) + 1)]
    seen = []
    for place, (one, part) in enumerate(zip(support, parts, strict=True)):
        for variant in range(variants):
            is_whole = variant == 0 and augment.tile_px is None
            shown = one if is_whole else augment(one, seed=seed * 7919 + place * _PRIOR_VARIANTS + variant)
            made = example(shown, model.preprocess)
            boxes, label = made.truth
            seen.append(boxes)
            grids = model.backbone.grids(made.prepared)
            fits[part].add(grids, boxes, label, side_px=made.prepared.shape[-1])
    model.head.install(PriorFit.joined(fits, **size).solve())
    model.head.size_px.copy_(level_sizes(torch.cat(seen)))
    return [PriorFit.joined([*fits[:at], *fits[at + 1 :]], **size).solve() for at in range(len(fits))]


def example(labelled: Labelled, preprocess: nn.Module) -> Example:
    """Through the one resize; truth are boxes float32[K,4] in pixels of the network's input and labels int64[K]."""
    prepared = preprocess(torch.from_numpy(labelled.image)[None])
    height, width = labelled.image.shape[:2]
    side = prepared.shape[-1]
    scale = torch.tensor([side / width, side / height] * 2)
    return Example(prepared, (torch.from_numpy(labelled.boxes_K4) * scale, torch.from_numpy(labelled.label_K)))


def _metrics(fitted: Sequence[Fitted[DetectionOutcome]]) -> dict[str, Any]:
    return {
        "task": "detect",
        "ap": _mean([one.outcome.ap for one in fitted]),
        "ap50": _mean([one.outcome.ap50 for one in fitted]),
        **figures_of(fitted),
    }


def _mean(values: Sequence[float | None]) -> dict[str, float | int | None] | None:
    """Over the draws where it is defined; None where no image measured has a true box."""
    known = [value for value in values if value is not None]
    return mean_interval(known).as_json() if known else None


def _report(
    run: Run, recipe: FinetuneRecipe, fitted: Sequence[Fitted[DetectionOutcome]], metrics: Mapping[str, Any]
) -> None:
    first, spec = fitted[0], recipe.data.decode_spec
    classes = first.outcome.classes
    subtitle = f"{len(classes)} classes from {len(first.support)} images, measured on {len(first.outcome.paths)} images"
    page = Page(f"Detection in {dataset_title(recipe.data.path)}", subtitle)
    headline(page, metrics, {"ap50": "AP50", "ap": "AP"})
    detection_report(page, first.outcome, load_image=lambda path: decode(Path(path), spec=spec))
    if first.choice:
        tried_ways(page, first.choice, measure="AP50 of each")
    rows = [(percent(one.outcome.ap50), percent(one.outcome.ap)) for one in fitted]
    finish_report(page, run, recipe, fitted, columns=["AP50", "AP"], rows=rows, skipped=first.skipped)
