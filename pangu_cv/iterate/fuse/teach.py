"""A student's last blocks taught by gradient what is believed of the images, on variants of them.

The head starts from its closed form and is fitted in closed form again on what the backbone has become.

Shapes: N images, C classes, B images of a batch, S pixels a side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from pangu_cv.iterate.fuse.ensemble import Floats
from pangu_cv.models.adapt import Partial
from pangu_cv.models.augment import AugmentConfig
from pangu_cv.models.cut import Cut
from pangu_cv.models.gpu import usable_gpu
from pangu_cv.models.labelled import Labelled
from pangu_cv.models.training import History, Pool, TrainConfig, suits_bf16, train
from pangu_cv.settings import Settings
from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.learner import Learner
from pangu_cv.tasks.viewed import pooled
from pangu_runtime.decode import DecodeSpec, decode


class TeachConfig(Settings):
    """Gradient training after the closed form."""

    blocks: Annotated[int, Field(ge=1)] = 2
    """Last blocks (stages of a CNN) that learn."""
    train: TrainConfig = TrainConfig(steps=120, batch=16, lr=1e-3, backbone_lr=2e-4, workers=0, pool=900)
    """How long and how fast."""
    augment: AugmentConfig = AugmentConfig(scale=(0.7, 1.0), blur=0, noise=0)
    """Variants: mild ones, since what is believed is of the whole image."""


@dataclass(frozen=True)
class _Shown:
    """A variant as the learning blocks see it, and the place of its image."""

    prepared: Tensor
    place: int
    kept: tuple[Tensor, ...]


def teach(
    model: ClassifyModel, paths: Sequence[Path], beliefs_NC: Floats, config: TeachConfig, *, spec: DecodeSpec, seed: int
) -> History:
    """Train the last blocks of a model whose head is fitted; the head is to be refitted then."""
    learner, augment = Learner(model), config.augment.build()
    groups = Partial(blocks=config.blocks).prepare(model.backbone)
    learner.head.requires_grad_(True)
    targets_NC = torch.from_numpy(beliefs_NC).float()
    cut = Cut(model.backbone, deep=config.blocks) if Cut.is_possible(model.backbone) else None
    is_bf16 = suits_bf16(model.backbone, config.train, on_gpu=usable_gpu())

    def arithmetic() -> torch.autocast:
        return torch.autocast(next(learner.parameters()).device.type, torch.bfloat16, enabled=is_bf16)

    def make(place: int, item_seed: int) -> _Shown:
        image = decode(paths[place], spec=spec)
        variant = augment(Labelled(image, None, np.zeros((0, 4), np.float32), np.zeros(0, np.int64)), seed=item_seed)
        prepared = model.preprocess(torch.from_numpy(variant.image)[None].to(targets_NC.device))
        if cut is None:
            return _Shown(prepared.half(), place, ())
        device = next(learner.parameters()).device
        with torch.no_grad(), arithmetic():
            kept = tuple(part.cpu().half() for part in cut.shallow(prepared.to(device)))
        return _Shown(prepared[..., :0, :0].half(), place, kept)

    def losses_of(batch: list[_Shown]) -> dict[str, Tensor]:
        device = next(learner.parameters()).device
        with arithmetic():
            features = _seen(model, cut, batch, device)
        logits_BC = learner.head(torch.cat([part.float() for part in pooled(features)], 1))
        wanted = targets_NC[[one.place for one in batch]].to(device)
        return {"beliefs": nn.functional.cross_entropy(logits_BC, wanted)}

    maker = make if cut is None else Pool(make, list(paths), size=config.train.pool)
    history = train(learner, groups, maker, losses_of, count=len(paths), config=config.train, seed=seed)
    model.backbone.requires_grad_(False)
    model.backbone.eval()
    return history


def _seen(model: ClassifyModel, cut: Cut | None, batch: list[_Shown], device: torch.device) -> Any:
    if cut is None:
        return model.backbone(torch.cat([one.prepared for one in batch]).float().to(device))
    kept = [torch.cat(part).float().to(device) for part in zip(*(one.kept for one in batch), strict=True)]
    side = model.config.preprocess.image_px
    return cut.deep(kept, torch.empty(len(batch), 3, side, side, device="meta"))
