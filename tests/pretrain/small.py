"""What tests of the stage share: tiny networks, batches and datasets."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pangu_cv.models.backbone import Backbone, BackboneConfig
from pangu_cv.pretrain import loop
from pangu_cv.pretrain.batches import Batch
from pangu_cv.pretrain.objectives.joint import Joint, JointConfig
from pangu_cv.pretrain.recipe import PretrainRecipe
from pangu_cv.pretrain.relations import UNKNOWN, Facts
from pangu_cv.pretrain.scores import Judged, Score
from pangu_cv.pretrain.texts import TextTable

SIDE = 64


def backbone(name: str = "test_vit", *, seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    return BackboneConfig(name=name, weights="random", levels=(1, 3, 4)).build()


def texts() -> TextTable:
    """Two captions (of no class) and the names of classes 0 and 1."""
    generator = torch.Generator().manual_seed(3)
    return TextTable(torch.randn(4, 8, generator=generator), torch.tensor([UNKNOWN, UNKNOWN, 0, 1]))


def joint(table: TextTable | None = None, *, seed: int = 0, name: str = "test_vit", **settings: object) -> Joint:
    config = JointConfig.model_validate(
        {"embedding": 16, "hidden": 0.5, "repair": {"width": 64, "depth": 1, "share": 1}} | settings
    )
    made = backbone(name, seed=seed)
    torch.manual_seed(seed + 1)
    return config.build(made, table or TextTable.empty(), side_px=SIDE)


def facts(count: int, *, labels: list[int] | None = None, captions: list[int] | None = None) -> Facts:
    unknown = torch.full((count,), UNKNOWN)
    near = torch.stack([torch.arange(1, count + 1) % count, torch.arange(2, count + 2) % count], 1)
    return Facts(
        torch.arange(count),
        unknown if labels is None else torch.tensor(labels),
        unknown if captions is None else torch.tensor(captions),
        near,
    )


def batch(known: Facts, *, seed: int = 0, local: int = 0) -> Batch:
    count = len(known.image_N)
    random = torch.Generator().manual_seed(seed)

    def pixels(*shape: int) -> Tensor:
        return torch.randint(0, 256, (count, *shape, 3), generator=random, dtype=torch.uint8)

    clean = pixels(2, SIDE, SIDE)
    noise = torch.randint(-30, 30, clean.shape, generator=random)
    damaged = (clean.int() + noise).clamp(0, 255).to(torch.uint8)
    return Batch(damaged, clean, pixels(local, 32, 32), torch.arange(count), known)


def images(folder: Path, *, count: int = 12, side: int = 80, classes: tuple[str, ...] = ("dots", "plain")) -> Path:
    """Class folders of noise of two kinds."""
    random = np.random.default_rng(0)
    for label in classes:
        (folder / label).mkdir(parents=True)
        for number in range(count):
            base = np.full((side, side + 10, 3), random.integers(60, 180), np.uint8)
            if label == "dots":
                base[:: random.integers(3, 7)] = 255
            noisy = base + random.integers(0, 40, base.shape).astype(np.uint8)
            Image.fromarray(noisy).save(folder / label / f"{number}.png")
    return folder


def score(*folds: float, target: str = "data") -> Score:
    """What a probe says where all draws and all images of a fold agree; one figure stands for both folds."""
    figures = folds if len(folds) > 1 else folds * 2
    return Score(target, tuple(Judged((value,) * 3, (value,) * 3) for value in figures), None)


def recipe(data: Path, output: Path, **changes: object) -> PretrainRecipe:
    tree: dict[str, object] = {
        "data": str(data),
        "targets": [{"path": str(data), "image_px": SIDE, "images": 24, "shots": 2, "draws": 2}],
        "backbone": {"name": "test_vit", "weights": "random", "levels": [1, 3, 4]},
        "views": {"image_px": SIDE},
        "objective": {"kind": "joint", "embedding": 16, "hidden": 0.5, "repair": {"width": 64, "depth": 1}},
        "optim": {"steps": 4, "batch": 8, "lr": 1e-3},
        "round_steps": 2,
        "engine": {"workers": 0, "accelerator": "cpu", "precision": "32-true"},
        "output": str(output),
    }
    return PretrainRecipe.parse(tree | changes, origin="test")


def dies_at(monkeypatch: pytest.MonkeyPatch, step: int) -> list[int]:
    """A run is interrupted at its so-manieth step; the list grows with each one begun."""
    steps, real = [], loop._step

    def dies(*arguments: Any) -> Any:
        steps.append(1)
        if len(steps) == step:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "_step", dies)
    return steps
