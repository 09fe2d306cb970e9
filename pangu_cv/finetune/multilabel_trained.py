"""Taggers whose backbone is adapted to the labelled images, or whose head is trained on many variants of them.

As with one label per image (``classify_trained``) learning starts from the head in closed form, which is fitted and
calibrated again on what the backbone has become. ``linear``, whose backbone stays, keeps the head that it trained.

Shapes: N images, B images of a batch, C classes.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pangu_cv.data.sample import Sample
from pangu_cv.evaluate import truth_of
from pangu_cv.features import Extraction, FeatureStore, Skipped, cache_folder, extract
from pangu_cv.finetune.auto import Trial, choose, require_enough
from pangu_cv.finetune.closed_form import labelled_image
from pangu_cv.finetune.draws import Kept, Parts, is_readable
from pangu_cv.finetune.fitted import Fitted
from pangu_cv.finetune.fitting import Example, fit
from pangu_cv.finetune.folds import Shown
from pangu_cv.finetune.kin import kin_of
from pangu_cv.finetune.multilabel_frozen import FittedDraws, decided, fit_head, memory_of
from pangu_cv.finetune.recipe import FinetuneRecipe
from pangu_cv.metrics.multilabel import MultilabelOutcome
from pangu_cv.models.adapt import Adapt
from pangu_cv.models.labelled import Labelled
from pangu_cv.models.ridge_map import LearnableMap
from pangu_cv.models.training import History
from pangu_cv.progress import bar
from pangu_cv.tasks.class_memory import ClassMemory
from pangu_cv.tasks.learner import Learner
from pangu_cv.tasks.multilabel import MultilabelConfig, MultilabelModel
from pangu_cv.tasks.viewed import pooled
from pangu_runtime.decode import DecodeSpec

SEEN = "what was trained has seen every labelled image, so probabilities may be surer than they should be of new ones"
WORTH = "half for right answers, half for the probability of the truth, classes that are shown as much as all others"
Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits float32[B,C] and truth bool[B,C] to a mean loss."""


@dataclass(frozen=True)
class Start:
    """The unfitted model, and what its backbone says of images as it is before it learns."""

    model: MultilabelModel
    features: FeatureStore


@dataclass(frozen=True)
class Fit:
    """A model fitted to labelled images, those that can be read, how that went, and what its head remembers."""

    model: MultilabelModel
    support: tuple[Sample, ...]
    history: History
    skipped: tuple[Skipped, ...]
    memory: ClassMemory | None


def fit_draws_trained(
    task: MultilabelConfig, recipe: FinetuneRecipe, classes: Sequence[str], draws: Sequence[Parts], shown: Shown
) -> FittedDraws:
    """Adapt to every draw by itself and measure it; a head that was trained has no memory."""
    model = task.build(classes)
    start = Start(model, FeatureStore(cache_folder() if recipe.cache else None, model.fingerprint))
    fitted: list[Fitted[MultilabelOutcome]] = []
    memory = None
    for seed, (support, measured) in zip(recipe.few_shot.seeds, draws, strict=True):
        one, learnt = _fit_draw(start, recipe, support, measured, shown, seed=seed)
        memory = memory if fitted else learnt
        fitted.append(one)
    return fitted, memory


def _fit_draw(
    start: Start,
    recipe: FinetuneRecipe,
    support: Sequence[Sample],
    measured: Sequence[Sample],
    shown: Shown,
    *,
    seed: int,
) -> tuple[Fitted[MultilabelOutcome], ClassMemory | None]:
    choice, auto, spec = None, recipe.adapt, recipe.data.decode_spec
    if auto.kind == "auto":
        brief = recipe.model_copy(update={"train": auto.shortened(recipe.train)})
        readable = [s for s in support if is_readable(s.path, spec)]
        trial, seconds = _trial(start, brief, shown), auto.seconds_of_images
        choice = choose(auto, readable, trial, seed=seed, seconds=seconds, shown=shown)
        recipe = recipe.with_way(choice.way)
    fitted = adapt(start, recipe, support, shown, seed=seed)
    is_as_before = recipe.adapt.kind in ("frozen", "linear")
    store = start.features if is_as_before else FeatureStore(None, "")
    test = _embedded(fitted.model, measured, fitted.model.config.decision_views, store, spec, "measuring")
    outcome, lost = decided(fitted.model, measured, test, shown), (*fitted.skipped, *test.skipped)
    looks = (tagged_image(fitted.support[0], fitted.model.classes, spec),)
    return Fitted(seed, fitted.model, fitted.support, fitted.history, outcome, lost, looks, choice), fitted.memory


def _trial(start: Start, recipe: FinetuneRecipe, shown: Shown) -> Trial:
    """What an image is worth when it was left out: see ``WORTH``."""

    def trial(way: Adapt, learnt: Sequence[Sample], held: Sequence[Sample], seed: int) -> list[float]:
        fitted = adapt(start, recipe.with_way(way), learnt, shown, seed=seed)
        require_enough(fitted.history, recipe.train)
        views, spec = fitted.model.config.decision_views, recipe.data.decode_spec
        test = _embedded(fitted.model, held, views, FeatureStore(None, ""), spec, "measuring")
        found = decided(fitted.model, held, test, shown)
        right_NC = found.is_present_NC == found.truth_NC
        sure_NC = np.where(found.truth_NC, found.scores_NC, 1 - found.scores_NC)
        return [_worth(row, truth) for row, truth in zip((right_NC + sure_NC) / 2, found.truth_NC, strict=True)]

    return trial


def _worth(worth_C: NDArray[np.floating], truth_C: NDArray[np.bool_]) -> float:
    """Classes that are shown weigh together what those do that are not: else to find nothing is worth most."""
    return float(np.mean([worth_C[side].mean() for side in (truth_C, ~truth_C) if side.any()]))


def adapt(start: Start, recipe: FinetuneRecipe, support: Sequence[Sample], shown: Shown, *, seed: int) -> Fit:
    """A model adapted to labelled images by the recipe's way."""
    model, spec = copy.deepcopy(start.model), recipe.data.decode_spec
    views, title = model.config.fit_views, "features of the labelled images"
    first = _embedded(model, support, views, start.features, spec, title)
    readable = tuple(s for s in support if s.path in first.index)
    kin = dict(zip((s.path for s in readable), kin_of(readable), strict=True))
    fit_head(model, readable, first, shown, kin)
    if recipe.adapt.kind == "frozen":
        return Fit(model, readable, History(), first.skipped, memory_of(model, readable, first, shown, kin))
    head, history = train_tags(model, recipe, readable, shown, seed=seed)
    if recipe.adapt.kind == "linear":
        model.head.settle(head)
        return Fit(model, readable, history, first.skipped, None)
    seen = _embedded(model, readable, views, FeatureStore(None, ""), spec, title)
    fit_head(model, readable, seen, shown, kin)
    return Fit(model, readable, history, first.skipped, memory_of(model, readable, seen, shown, kin))


def _embedded(
    model: MultilabelModel,
    samples: Sequence[Sample],
    views: Sequence[str],
    store: FeatureStore,
    spec: DecodeSpec,
    title: str,
) -> Extraction:
    with bar(title) as progress:
        return extract([s.path for s in samples], model, views=views, store=store, decode_spec=spec, progress=progress)


def train_tags(
    model: MultilabelModel, recipe: FinetuneRecipe, support: Sequence[Sample], shown: Shown, *, seed: int
) -> tuple[LearnableMap, History]:
    """Train the backbone of a model whose head is fitted, under a head that learns and is returned."""
    spec, trained, augment = recipe.data.decode_spec, Learner(model), recipe.augment.build()
    present_NC = torch.from_numpy(truth_of([shown[s] for s in support], model.classes))
    loss = tag_loss(present_NC)
    load = Kept(lambda s: tagged_image(s, model.classes, spec), lambda one: one.image.nbytes)

    def make(place: int, item_seed: int) -> Example:
        variant = augment(load(support[place]), seed=item_seed)
        return Example(model.preprocess(torch.from_numpy(variant.image)[None]), present_NC[place])

    def losses_of(prepared: Tensor, parts: Sequence[Tensor], truths: list[Tensor]) -> dict[str, Tensor]:
        return {"tags": loss(trained.head(torch.cat(list(parts), 1)), torch.stack(truths).to(prepared.device))}

    history = fit(trained, recipe, make, losses_of, support=support, seed=seed, read=pooled)
    model.eval()
    return trained.head, history


def tagged_image(sample: Sample, classes: Sequence[str], spec: DecodeSpec) -> Labelled:
    """The image with what is known of where it shows its classes: no crop may cut one of them away."""
    numbers = [list(classes).index(box.label) for box in sample.boxes or ()]
    return replace(labelled_image(sample, spec), label_K=np.array(numbers, np.int64))


def tag_loss(present_NC: Tensor) -> Loss:
    """Binary cross-entropy of each class, in which images that show it weigh together what the others do.

    What these weights would add to the logits is added beforehand, so that a sigmoid still says how probable its class
    is. Targets are as far from 0 and 1 as those of the calibrated sigmoids (``models/platt.py``).
    """
    shown_C, absent_C = present_NC.sum(0).float(), (~present_NC).sum(0).float()
    ratio_C = (absent_C + 1) / (shown_C + 1)
    scale_C = (1 + ratio_C) / (2 * ratio_C)  # a rare class must not shout: its images weigh 1 on average
    present_C, lacking_C = (shown_C + 1) / (shown_C + 2), 1 / (absent_C + 2)

    def loss(logits_BC: Tensor, truth_BC: Tensor) -> Tensor:
        ratio, scale, present, lacking = (one.to(logits_BC.device) for one in (ratio_C, scale_C, present_C, lacking_C))
        target_BC = torch.where(truth_BC, present, lacking)
        return nn.functional.binary_cross_entropy_with_logits(
            logits_BC + ratio.log(), target_BC, weight=scale, pos_weight=ratio
        )

    return loss
