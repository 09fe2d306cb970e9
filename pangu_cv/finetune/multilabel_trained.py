"""Taggers whose backbone is adapted to the labelled images, or whose head is trained on many variants of them.

As with one label per image (``classify_trained``) learning starts from the head in closed form, which is fitted and
calibrated again on what the backbone has become. ``linear``, whose backbone stays, keeps the head that it trained.

Shapes: N images, B images of a batch, C classes.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from pangu_cv.data.sample import Sample
from pangu_cv.evaluate import truth_of
from pangu_cv.features import Extraction, FeatureStore, cache_folder, extract
from pangu_cv.finetune.closed_form import labelled_image
from pangu_cv.finetune.draws import Kept, Parts
from pangu_cv.finetune.fitted import Fitted
from pangu_cv.finetune.fitting import Example, fit
from pangu_cv.finetune.kin import kin_of
from pangu_cv.finetune.multilabel_frozen import FittedDraws, Shown, decided, fit_head, memory_of
from pangu_cv.finetune.recipe import FinetuneRecipe
from pangu_cv.metrics.multilabel import MultilabelOutcome
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
Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits float32[B,C] and truth bool[B,C] to a mean loss."""


def fit_draws_trained(
    task: MultilabelConfig, recipe: FinetuneRecipe, classes: Sequence[str], draws: Sequence[Parts], shown: Shown
) -> FittedDraws:
    """Adapt to every draw by itself and measure it; a head that was trained has no memory."""
    start = task.build(classes)
    store = FeatureStore(cache_folder() if recipe.cache else None, start.fingerprint)
    fitted: list[Fitted[MultilabelOutcome]] = []
    memory = None
    for seed, (support, measured) in zip(recipe.few_shot.seeds, draws, strict=True):
        one, learnt = _fit_draw(copy.deepcopy(start), recipe, support, measured, shown, seed=seed, store=store)
        memory = memory if fitted else learnt
        fitted.append(one)
    return fitted, memory


def _fit_draw(
    model: MultilabelModel,
    recipe: FinetuneRecipe,
    support: Sequence[Sample],
    measured: Sequence[Sample],
    shown: Shown,
    *,
    seed: int,
    store: FeatureStore,
) -> tuple[Fitted[MultilabelOutcome], ClassMemory | None]:
    """``store`` is of the backbone as it is before it learns."""
    config, spec = model.config, recipe.data.decode_spec

    def embedded(samples: Sequence[Sample], views: Sequence[str], known: FeatureStore, title: str) -> Extraction:
        with bar(title) as progress:
            paths = [s.path for s in samples]
            return extract(paths, model, views=views, store=known, decode_spec=spec, progress=progress)

    first = embedded(support, config.fit_views, store, "features of the labelled images")
    readable = tuple(s for s in support if s.path in first.index)
    kin = dict(zip((s.path for s in readable), kin_of(readable), strict=True))
    fit_head(model, readable, first, shown, kin)
    head, history = train_tags(model, recipe, readable, shown, seed=seed)
    memory = None
    if recipe.adapt.kind == "linear":
        model.head.settle(head)
    else:
        store = FeatureStore(None, "")
        seen = embedded(readable, config.fit_views, store, "features of the labelled images")
        fit_head(model, readable, seen, shown, kin)
        memory = memory_of(model, readable, seen, shown, kin)
    test = embedded(measured, config.decision_views, store, "measuring")
    outcome, lost = decided(model, measured, test, shown), (*first.skipped, *test.skipped)
    looks = (tagged_image(readable[0], model.classes, spec),)
    return Fitted(seed, model, readable, history, outcome, lost, looks), memory


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
