"""Fit detectors to draws of a few images with boxes, measure them on the test images, save the first.

Shapes: H×W pixels of an image, S×S as the network sees it, K boxes of an image, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pangu_cv.data.sample import Sample
from pangu_cv.finetune.fitting import Example, fit
from pangu_cv.finetune.recipe import FinetuneRecipe
from pangu_cv.finetune.training import History
from pangu_cv.models.augment import Augment, Labelled
from pangu_cv.models.box_prior import PriorFit, level_sizes
from pangu_cv.tasks.detect import DetectConfig, DetectModel

_PRIOR_VARIANTS = 4


@dataclass(frozen=True)
class Boxed:
    """An image in memory with its boxes."""

    sample: Sample
    labelled: Labelled


def labelled(image: np.ndarray, sample: Sample, classes: Sequence[str]) -> Labelled:
    """An image with the boxes of its sample."""
    boxes = sample.boxes or ()
    corners = np.array([box.xyxy for box in boxes], np.float32).reshape(-1, 4)
    return Labelled(image, None, corners, np.array([list(classes).index(box.label) for box in boxes], np.int64))


def fit_boxes(
    task: DetectConfig, recipe: FinetuneRecipe, classes: Sequence[str], support: Sequence[Labelled], *, seed: int
) -> tuple[DetectModel, History]:
    """A model trained on a draw."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = task.build(classes)
    augment = recipe.augment.build()
    start(model, support, augment, seed=seed)

    def make(place: int, item_seed: int) -> Example:
        return example(augment(support[place], seed=item_seed), model.preprocess)

    def losses_of(prepared: Tensor, grids: Sequence[Tensor], truths: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        dense = model.head(prepared, grids)
        return model.losses(dense, [(boxes.to(prepared.device), label.to(prepared.device)) for boxes, label in truths])

    history = fit(model, recipe, make, losses_of, count=len(support), seed=seed)
    return model, history


@torch.no_grad()
def start(model: DetectModel, support: Sequence[Labelled], augment: Augment, *, seed: int) -> None:
    """Prototypes and sizes from the labelled boxes, seen in a few variants each."""
    head = model.head
    prior = PriorFit(features=len(head.prior_mean), classes=len(model.classes))
    seen = []
    for place, one in enumerate(support):
        for variant in range(_PRIOR_VARIANTS):
            shown = one if variant == 0 else augment(one, seed=seed * 7919 + place * _PRIOR_VARIANTS + variant)
            made = example(shown, model.preprocess)
            boxes, label = made.truth
            seen.append(boxes)
            prior.add(model.backbone.grids(made.prepared), boxes, label, side_px=made.prepared.shape[-1])
    prior.install(head)
    head.size_px.copy_(level_sizes(torch.cat(seen)))


def example(labelled: Labelled, preprocess: nn.Module) -> Example:
    """Through the one resize; truth are boxes float32[K,4] in pixels of the network's input and labels int64[K]."""
    prepared = preprocess(torch.from_numpy(labelled.image)[None])
    height, width = labelled.image.shape[:2]
    side = prepared.shape[-1]
    scale = torch.tensor([side / width, side / height] * 2)
    return Example(prepared, (torch.from_numpy(labelled.boxes_K4) * scale, torch.from_numpy(labelled.label_K)))
