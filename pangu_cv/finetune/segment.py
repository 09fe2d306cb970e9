"""Fit segmenters to draws of a few masks, measure them on the test images, save the first.

Shapes: H×W pixels of an image, S×S as the network sees it, C classes, B images of a step.
"""

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pangu_cv.data.config import dataset_title
from pangu_cv.data.masks import read_class_mask
from pangu_cv.data.readers.mvtec import NORMAL
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError, ImageError
from pangu_cv.evaluate import Loaders, TorchDecider, class_mask, evaluate_segment, is_masked, to_measure
from pangu_cv.features import Skipped, read_ahead
from pangu_cv.finetune.all_draws import headline
from pangu_cv.finetune.auto import Trial, tried_ways
from pangu_cv.finetune.dense_draws import draw_dense, notes_of
from pangu_cv.finetune.draws import Kept, Parts, apart, donor, parts_of, to_learn_from
from pangu_cv.finetune.fitted import Fitted, figures_of, finish_report, save_first
from pangu_cv.finetune.fitting import Example, chosen_way, fit_new_head
from pangu_cv.finetune.folds import Shown
from pangu_cv.finetune.recipe import FinetuneRecipe, FinetuneResult
from pangu_cv.finetune.remarks import remarks
from pangu_cv.metrics.interval import mean_interval
from pangu_cv.metrics.segmentation import SegmentationOutcome
from pangu_cv.models.adapt import Adapt
from pangu_cv.models.labelled import Labelled
from pangu_cv.models.training import History
from pangu_cv.progress import bar
from pangu_cv.report.page import Page
from pangu_cv.report.segmentation import segmentation_report
from pangu_cv.runs import Run
from pangu_cv.tasks.segment import SegmentConfig, SegmentModel
from pangu_runtime.decode import DecodeSpec, decode

_MASK = "a mask; outlines, and masks that are colours, become such by 'pangu-cv data convert --masks'"
_NO_BOXES = np.zeros((0, 4), np.float32)
_NO_LABELS = np.zeros(0, np.int64)


def finetune_segment(recipe: FinetuneRecipe, task: SegmentConfig) -> FinetuneResult:
    """Run the recipe; raises PanguError for what the user can mend."""
    dataset = recipe.data.read()
    classes = dataset.mask_classes or ("background", "defect")
    pool, test = parts_of(dataset, lambda s: s.mask is not None, needs=_MASK)
    normal, test_normal = normals(dataset)
    contents, lost = survey((*pool, *normal), classes=classes, spec=recipe.data.decode_spec)
    masked = {s: shown for s, shown in contents.items() if s.mask is not None}
    normal = tuple(s for s in contents if s.mask is None)
    unseen, shots = never_learnt(classes, masked, test), recipe.few_shot.shots
    run = Run.start(recipe.output, name="segment", recipe=recipe)
    fitted: list[Fitted[SegmentationOutcome]] = []
    draws: list[Parts] = []
    for seed in recipe.few_shot.seeds:
        support, measured = draw_dense(list(masked), test, masked, shots=shots, seed=seed, normal=normal)
        draws.append((support, apart(support, (*measured, *test_normal))))
        fitted.append(fit_draw(task, recipe, classes, *draws[-1], seed=seed, shown=contents))
        if len(fitted) == 1:
            save_first(fitted[0], recipe, dataset, run)
    notes = (*dataset.notes, *unseen, *notes_of(draws, (*test, *test_normal), contents, shots=shots))
    metrics = _metrics(fitted, lost) | remarks(fitted[0].model.backbone.source, recipe, notes)
    run.write_metrics(metrics)
    _report(run, recipe, fitted, lost, metrics)
    return FinetuneResult(run.folder, run.model, run.report, metrics)


def normals(dataset: Dataset) -> Parts:
    """Normal images without a mask (the MVTec AD layout has them), which show nothing: to learn from and to measure on.

    Those of the part that is measured are never learnt from; without such a part none is measured on.
    """
    found = [s for s in dataset if s.label == NORMAL and s.mask is None]
    measured = set(to_measure([s for s in dataset if is_masked(s)]))
    return to_learn_from(found, but=measured), tuple(s for s in found if s in measured)


def never_learnt(
    classes: Sequence[str], contents: Mapping[Sample, frozenset[str]], test: Sequence[Sample]
) -> list[str]:
    """A note on classes that no usable mask to learn from shows; raises DataError where a test mask shows one."""
    missing = sorted(set(classes[1:]) - frozenset[str]().union(*contents.values()))
    if not missing:
        return []
    tested = _shown_by_masks(test, classes)
    if strange := [name for name in missing if name in tested]:
        raise DataError(
            f"no usable training mask shows {', '.join(strange)}, and test masks do; label training images of it, or "
            "give its pixels 255 (no matter what) in the test masks"
        )
    return [f"no usable training mask shows {', '.join(missing)}: the model never finds it"]


def _shown_by_masks(samples: Sequence[Sample], classes: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for path in (s.mask for s in samples if s.mask is not None):
        with suppress(ImageError):  # it is named where it is measured
            mask_HW = read_class_mask(path, classes=len(classes))
            found |= {classes[value] for value in np.unique(mask_HW) if value < len(classes)}
    return found


def survey(
    samples: Sequence[Sample], *, classes: Sequence[str], spec: DecodeSpec
) -> tuple[dict[Sample, frozenset[str]], tuple[Skipped, ...]]:
    """The classes that each usable mask shows, the background left out; what does not fit is named and left out."""
    found: dict[Sample, frozenset[str]] = {}
    lost: list[Skipped] = []
    with bar("reading masks") as progress:
        # Whole images: a header may be in order where the rest is damaged.
        shapes = read_ahead([s.path for s in samples], lambda path: decode(path, spec=spec).shape[:2])
        for done, (sample, shape) in enumerate(zip(samples, shapes, strict=True), start=1):
            try:
                if isinstance(shape, ImageError):
                    raise shape
                mask = class_mask(sample, shape, classes=len(classes))
                found[sample] = frozenset(classes[value] for value in np.unique(mask) if 0 < value < len(classes))
            except ImageError as error:
                lost.append(Skipped(sample.path, error.reason, str(error)))
            progress(done, len(samples))
    if not found:
        raise DataError(f"none of the {len(samples)} images with masks can be used; first: {lost[0].message}")
    return found, tuple(lost)


def fit_draw(
    task: SegmentConfig,
    recipe: FinetuneRecipe,
    classes: Sequence[str],
    support: Sequence[Sample],
    test: Sequence[Sample],
    *,
    seed: int,
    shown: Shown | None = None,
) -> Fitted[SegmentationOutcome]:
    """Train on a draw and measure; ``shown`` are the classes of each image, by which ``auto`` cuts folds."""
    spec = recipe.data.decode_spec
    recipe, choice = chosen_way(recipe, support, lambda brief: _trial(task, brief, classes), seed=seed, shown=shown)
    model, history = fit_masks(task, recipe, classes, support, seed=seed)
    with bar("measuring") as progress:
        found = evaluate_segment(TorchDecider(model), test, classes=classes, decode_spec=spec, progress=progress)
    looks = tuple(labelled(s, classes=len(classes), spec=spec) for s in support[:2])
    return Fitted(seed, model, tuple(support), history, found.outcome, found.skipped, looks, choice)


def _trial(task: SegmentConfig, recipe: FinetuneRecipe, classes: Sequence[str]) -> Trial:
    """An image left out is worth its F1."""

    def trial(way: Adapt, learnt: Sequence[Sample], held: Sequence[Sample], seed: int) -> list[float]:
        model, _ = fit_masks(task, recipe.with_way(way), classes, learnt, seed=seed)
        found = evaluate_segment(TorchDecider(model), held, classes=classes, decode_spec=recipe.data.decode_spec)
        return [float(worth) for worth in found.outcome.f1_per_image_N]

    return trial


def fit_masks(
    task: SegmentConfig, recipe: FinetuneRecipe, classes: Sequence[str], support: Sequence[Sample], *, seed: int
) -> tuple[SegmentModel, History]:
    """A model trained on readable images with masks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = task.build(classes)
    preprocess = copy.deepcopy(model.preprocess)  # stays with the images when the model moves to a GPU
    augment, spec = recipe.augment.build(tile_px=task.tile.px if task.tile else None), recipe.data.decode_spec
    load = Kept(lambda s: labelled(s, classes=len(classes), spec=spec), lambda one: one.image.nbytes)

    def make(place: int, item_seed: int) -> Example:
        other = donor(support, load, place=place, chance=recipe.augment.paste, seed=item_seed)
        shown = augment(load(support[place]), seed=item_seed, donor=other)
        return example(shown, preprocess, classes=len(classes))

    def losses_of(prepared: Tensor, grids: Sequence[Tensor], truths: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        share, counts = (torch.cat(parts).to(prepared.device) for parts in zip(*truths, strict=True))
        return model.losses(model.logits_from_grids(prepared, grids), share, counts)

    return model, fit_new_head(model, recipe, make, losses_of, support=support, seed=seed)


def labelled(sample: Sample, *, classes: int, spec: DecodeSpec) -> Labelled:
    """A sample's pixels and mask; raises ImageError."""
    image = decode(sample.path, spec=spec)
    return Labelled(image, class_mask(sample, image.shape[:2], classes=classes), _NO_BOXES, _NO_LABELS)


def example(shown: Labelled, preprocess: nn.Module, *, classes: int) -> Example:
    """Through the one resize; truth is each pixel's share of a class [1,C,S,S], by area, and what counts [1,S,S]."""
    assert shown.mask is not None
    prepared = preprocess(torch.from_numpy(shown.image)[None])
    mask_HW = torch.from_numpy(np.ascontiguousarray(shown.mask))
    size = prepared.shape[-2:]
    planes = (  # one at a time: of 20 classes at 20 megapixels all would take gigabytes
        nn.functional.interpolate(
            (mask_HW == number)[None, None].float(), size=size, mode="bilinear", antialias=True, align_corners=False
        )
        for number in range(classes)
    )
    share = torch.cat(list(planes), 1)
    counts = share.sum(1)
    return Example(prepared, (share / counts.clamp(min=1e-6)[:, None], (counts > 0.5).float()))


def _metrics(fitted: Sequence[Fitted[SegmentationOutcome]], lost: Sequence[Skipped]) -> dict[str, Any]:
    return {
        "task": "segment",
        "f1": mean_interval([one.outcome.f1 for one in fitted]).as_json(),
        "mean_iou": mean_interval([one.outcome.mean_iou for one in fitted]).as_json(),
        **figures_of(fitted, lost),
    }


def _report(
    run: Run,
    recipe: FinetuneRecipe,
    fitted: Sequence[Fitted[SegmentationOutcome]],
    lost: Sequence[Skipped],
    metrics: Mapping[str, Any],
) -> None:
    first = fitted[0]
    spec, classes = recipe.data.decode_spec, first.outcome.classes
    subtitle = f"{len(classes)} classes from {len(first.support)} masks, measured on {len(first.outcome.paths)} images"
    page = Page(f"Segmentation of {dataset_title(recipe.data.path)}", subtitle)
    headline(page, metrics, {"f1": "F1", "mean_iou": "Mean IoU"})
    loaders = Loaders(TorchDecider(first.model), spec, recipe.data.read().samples)
    segmentation_report(page, first.outcome, load_masks=lambda path: loaders.masks(path, len(classes)))
    if first.choice:
        tried_ways(page, first.choice, measure="F1 of each")
    rows = [(f"{one.outcome.f1:.1%}", f"{one.outcome.mean_iou:.1%}") for one in fitted]
    skipped = (*lost, *first.skipped)
    finish_report(page, run, recipe, fitted, columns=["F1", "mean IoU"], rows=rows, skipped=skipped)
