"""How unsure a model is of each image of a pool, 0 (sure) to 1.

Shapes: N images, D features, C classes, V views.
"""

import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pangu_cv.evaluate import TorchDecider
from pangu_cv.features import Progress, read_ahead
from pangu_cv.iterate.pool import Pool
from pangu_cv.tasks import TaskModel
from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.saved import SavedModel
from pangu_cv.tasks.viewed import see
from pangu_runtime.decode import decode
from pangu_runtime.edge.doubt import certainty
from pangu_runtime.errors import ImageError
from pangu_runtime.predictor import unpack

Measure = Literal["margin", "entropy", "views"]
_MIRRORED = ("identity", "flip_lr", "flip_ud")
_BLOCK = 4096


def doubts(saved: SavedModel, pool: Pool, *, measure: Measure, progress: Progress | None = None) -> NDArray[np.float32]:
    """float32[N]; a classifier's from the pool's own vectors, any other model's by deciding every image."""
    model = saved.model
    if not isinstance(model, ClassifyModel):
        return _decided(model, pool, saved.provenance.decode, progress)
    if measure == "views":
        return _disagreements(model, pool, saved.provenance.decode, progress)
    found = np.empty(len(pool), np.float32)
    with torch.inference_mode():
        for start in range(0, len(pool), _BLOCK):
            places = np.arange(start, min(start + _BLOCK, len(pool)))
            scores_NC = model.head(torch.from_numpy(pool.raw(places))[:, None]).softmax(-1)
            found[places] = (_margin(scores_NC) if measure == "margin" else _entropy(scores_NC)).numpy()
    return found


def _margin(scores_NC: Tensor) -> Tensor:
    best = scores_NC.topk(2, dim=-1).values
    return 1 - (best[:, 0] - best[:, 1])


def _entropy(scores_NC: Tensor) -> Tensor:
    """As a share of the most there can be."""
    entropy_N: Tensor = torch.special.entr(scores_NC).sum(-1)
    return entropy_N / math.log(scores_NC.shape[-1])


def _disagreements(model: ClassifyModel, pool: Pool, spec: Any, progress: Progress | None) -> NDArray[np.float32]:
    """Entropy of the mean over mirror images less their mean entropy (Jensen-Shannon), as a share of the most."""

    def one(image: NDArray[np.uint8]) -> float:
        prepared = model.prepare(torch.from_numpy(image)[None])
        views = torch.cat([see(prepared, view) for view in _MIRRORED])
        scores_VC = model.head(model.embed(views, "identity")[:, None]).softmax(-1)
        return float(_entropy(scores_VC.mean(0, keepdim=True))[0] - _entropy(scores_VC).mean())

    return _each(one, pool, spec, progress)


def _decided(model: TaskModel, pool: Pool, spec: Any, progress: Progress | None) -> NDArray[np.float32]:
    decider = TorchDecider(model)
    classes = tuple(getattr(model, "classes", ()))

    def one(image: NDArray[np.uint8]) -> float:
        return 1 - certainty(unpack([""], decider.run(image[None]), task=model.config.kind, classes=classes)[0])

    return _each(one, pool, spec, progress)


def _each(one: Any, pool: Pool, spec: Any, progress: Progress | None) -> NDArray[np.float32]:
    """Of every image; one that is gone since has no doubt."""
    found = np.zeros(len(pool), np.float32)
    images = read_ahead(pool.images, lambda path: decode(path, spec=spec))
    with torch.inference_mode():
        for place, image in enumerate(images):
            found[place] = 0.0 if isinstance(image, ImageError) else one(image)
            if progress:
                progress(place + 1, len(pool))
    return found
