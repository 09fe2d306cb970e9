"""Masks, five or all: our segmenter against a linear head on the same features and a U-Net from scratch, equal time."""

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pangu_cv import recipes
from pangu_cv.data.readers import read_dataset
from pangu_cv.evaluate import TorchDecider, evaluate_segment
from pangu_cv.finetune.draws import draw_support, parts_of
from pangu_cv.finetune.recipe import FinetuneRecipe
from pangu_cv.finetune.segment import example, fit_draw, labelled, survey
from pangu_cv.models.arithmetic import keep_freed_memory
from pangu_cv.tasks.segment import SegmentConfig, SegmentModel
from pangu_runtime.decode import DEFAULT_SPEC

METHODS = ("ours", "linear head", "U-Net")
_WIDTH = 24


def measure(*, data: str, is_quick: bool, name: str, shots: int | None, seed: int, steps: int) -> dict[str, Any]:
    """F1 of all three on the test images; the two others train for the seconds that ours took."""
    dataset = read_dataset(Path(data) / name)
    pool, test = parts_of(dataset, lambda s: s.mask is not None, needs="a mask")
    contents, _ = survey(pool, classes=dataset.mask_classes, spec=DEFAULT_SPEC)
    support, measured = draw_support(list(contents), test, contents, shots=shots, seed=seed)
    measured = measured[:6] if is_quick else measured
    settings = ["data.path=unused", f"train.steps={2 if is_quick else steps}"]
    recipe = FinetuneRecipe.load(recipes.find("finetune", "segment"), settings)
    task = recipe.task
    assert isinstance(task, SegmentConfig)
    start = time.perf_counter()
    fitted = fit_draw(task, recipe, dataset.mask_classes, support, measured, seed=seed)
    seconds = fitted.history.seconds
    found = {"ours": fitted.outcome.summary()}
    for method, head in (("linear head", _Linear), ("U-Net", _UNet)):
        model = task.build(dataset.mask_classes)
        channels = [grid.shape[1] for grid in model.backbone.probe(task.preprocess.image_px).grids_BDhw]
        torch.manual_seed(seed)
        model.head = head(channels, len(dataset.mask_classes))
        _train(model, recipe, support, seconds=3 if is_quick else seconds, seed=seed, is_unet=head is _UNet)
        outcome = evaluate_segment(
            TorchDecider(model), measured, classes=dataset.mask_classes, decode_spec=DEFAULT_SPEC
        ).outcome
        found[method] = outcome.summary()
    about = {"name": name, "shots": shots, "seed": seed, "labelled": len(support), "seconds": seconds}
    return about | {"whole_seconds": time.perf_counter() - start, "methods": found}


class _Linear(nn.Module):
    """A 1×1 convolution on all grids side by side."""

    def __init__(self, channels: Sequence[int], classes: int) -> None:
        super().__init__()
        self.norm = nn.ModuleList([nn.GroupNorm(1, c, affine=False) for c in channels])
        self.classify = nn.Conv2d(sum(channels), classes, 1)

    def forward(self, images: Tensor, grids: Sequence[Tensor]) -> Tensor:
        side = images.shape[-1] // 4
        resized = [
            nn.functional.interpolate(norm(grid), size=(side, side), mode="bilinear")
            for norm, grid in zip(self.norm, grids, strict=True)
        ]
        return self.classify(torch.cat(resized, 1))  # type: ignore[no-any-return]


class _UNet(nn.Module):
    """U-Net (arXiv 1505.04597) of four levels on the pixels alone; the backbone's grids are not looked at."""

    def __init__(self, channels: Sequence[int], classes: int) -> None:
        super().__init__()
        widths = [_WIDTH * 2**n for n in range(4)]
        self.down = nn.ModuleList([_double(a, b) for a, b in zip((3, *widths), widths, strict=False)])
        self.up = nn.ModuleList([_double(b + a, a) for a, b in pairwise(widths)][::-1])
        self.classify = nn.Conv2d(widths[0], classes, 1)

    def forward(self, images: Tensor, grids: Sequence[Tensor]) -> Tensor:
        x, kept = nn.functional.avg_pool2d(images, 2), []
        for number, layer in enumerate(self.down):
            x = layer(x if number == 0 else nn.functional.max_pool2d(x, 2))
            kept.append(x)
        for layer, skip in zip(self.up, kept[-2::-1], strict=True):
            x = layer(torch.cat([nn.functional.interpolate(x, size=skip.shape[-2:], mode="bilinear"), skip], 1))
        return self.classify(x)  # type: ignore[no-any-return]


def _double(inputs: int, outputs: int) -> nn.Module:
    layers: list[nn.Module] = []
    for a in (inputs, outputs):
        layers += [nn.Conv2d(a, outputs, 3, padding=1, bias=False), nn.GroupNorm(8, outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def _train(
    model: SegmentModel, recipe: FinetuneRecipe, support: Sequence[Any], *, seconds: float, seed: int, is_unet: bool
) -> None:
    """A plain loop with the same variants and losses; the U-Net is spared the backbone's passes."""
    keep_freed_memory()
    classes = len(model.classes)
    augment, random = recipe.augment.build(), np.random.default_rng(seed)
    images = [labelled(s, classes=classes, spec=DEFAULT_SPEC) for s in support]
    optimiser = torch.optim.AdamW(model.head.parameters(), lr=2e-3, weight_decay=0.05)
    model.train()
    start = time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        share = spent / seconds
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, share / 0.1) * (0.5 + 0.5 * np.cos(np.pi * share))
        places = random.integers(len(images), size=recipe.train.batch)
        made = [
            example(augment(images[at], seed=int(random.integers(2**31))), model.preprocess, classes=classes)
            for at in places
        ]
        prepared = torch.cat([one.prepared for one in made])
        share_BCSS, counts_BSS = (torch.cat(parts) for parts in zip(*(one.truth for one in made), strict=True))
        with torch.no_grad():
            grids = () if is_unet else model.backbone.grids(prepared)
        losses = model.losses(model.logits_from_grids(prepared, grids), share_BCSS, counts_BSS)
        optimiser.zero_grad()
        sum(losses.values()).backward()  # type: ignore[union-attr]
        optimiser.step()
    model.eval()
