"""Taggers on a frozen network: each image is embedded once for all draws, and each draw's head is in closed form.

Shapes: N images, V views, D features, C classes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError
from pangu_cv.evaluate import truth_of
from pangu_cv.features import Extraction, FeatureStore, cache_folder, extract
from pangu_cv.finetune.draws import Parts
from pangu_cv.finetune.fitted import Fitted
from pangu_cv.finetune.folds import Shown
from pangu_cv.finetune.kin import kin_of
from pangu_cv.finetune.recipe import FinetuneRecipe
from pangu_cv.metrics.multilabel import MultilabelOutcome
from pangu_cv.models.training import History
from pangu_cv.progress import bar
from pangu_cv.tasks.class_memory import ClassMemory, remembered
from pangu_cv.tasks.multilabel import MultilabelConfig, MultilabelModel

FittedDraws = tuple[list[Fitted[MultilabelOutcome]], ClassMemory | None]
"""Every draw, and what the head of the first has learnt from."""


def fit_draws(
    task: MultilabelConfig, recipe: FinetuneRecipe, classes: Sequence[str], draws: Sequence[Parts], shown: Shown
) -> FittedDraws:
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
        fit_head(model, kept, seen, shown, kin)  # the first draw comes last, so that the model ends with its head
        outcome = decided(model, measured, test, shown)
        fitted.append(Fitted(seed, model, kept, History(), outcome, (*seen.skipped, *test.skipped)))
    return fitted[::-1], memory_of(model, fitted[-1].support, seen, shown, kin)


def fit_head(
    model: MultilabelModel, support: Sequence[Sample], seen: Extraction, shown: Shown, kin: Mapping[Path, str]
) -> None:
    """Fit and calibrate the head in closed form; raises DataError where no image of a class can be read."""
    present = truth_of([shown[s] for s in support], model.classes)
    lost = [name for name, count in zip(model.classes, present.sum(0), strict=True) if not count]
    if lost:
        raise DataError(f"no readable image is left of class(es) {', '.join(lost)}")
    model.fit(_rows(seen, support), torch.from_numpy(present), [kin[s.path] for s in support])


def memory_of(
    model: MultilabelModel, support: Sequence[Sample], seen: Extraction, shown: Shown, kin: Mapping[Path, str]
) -> ClassMemory | None:
    """Of the images that the head has just been fitted to."""
    names = [tuple(sorted(shown[s])) for s in support]
    return remembered(model, [s.path for s in support], names, _rows(seen, support), [kin[s.path] for s in support])


def decided(model: MultilabelModel, samples: Sequence[Sample], test: Extraction, shown: Shown) -> MultilabelOutcome:
    """What the model makes of test images."""
    kept = [s for s in samples if s.path in test.index]
    if not kept:
        raise DataError("none of the test images can be read")
    with torch.inference_mode():
        scores, present, _ = model.decide_from_features(_rows(test, kept), model.threshold)
    truth = truth_of([shown[s] for s in kept], model.classes)
    paths, groups = tuple(str(s.path) for s in kept), tuple(s.group for s in kept)
    threshold = float(model.threshold)
    return MultilabelOutcome(model.classes, paths, scores.numpy(), present.numpy(), truth, threshold, groups)


def _rows(seen: Extraction, samples: Sequence[Sample]) -> Tensor:
    return torch.from_numpy(seen.features_NVD[[seen.index[s.path] for s in samples]])
