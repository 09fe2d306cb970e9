"""How fast: the whole pipeline against the bare model, and our DINO against lightly's own loop, side by side.

Both pairs take turns in one process, so that a machine of changing speed is fair to both.
"""

import copy
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.isolate import NotRunError
from benchmarks.pretrain_subjects import BACKBONE, RUNS, pool_recipe, run
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.pretrain import PretrainRecipe
from pangu_cv.pretrain.batches import Batch
from pangu_cv.pretrain.images import gather
from pangu_cv.pretrain.optimiser import build_optimiser
from pangu_cv.pretrain.relations import UNKNOWN, Facts
from pangu_cv.pretrain.texts import TextTable

_ROUNDS = 3


def pipeline(*, data: str, is_quick: bool, steps: int) -> dict[str, Any]:
    """Images/s of whole runs (views of cached images, transfer, step) and of the same steps on one batch of tensors."""
    # The pass that finds neighbours comes once a round of 100 steps; in a run of few steps it would drown the rest.
    changes = ("objective.neighbours.weight=0", "objective.labels.weight=0")
    recipe = _recipe(Path(data), "joint", "pipeline", steps=steps, is_quick=is_quick, changes=changes)
    return _in_turn(recipe, {"pipeline": lambda: _run_seconds(recipe), "bare": _bare_loop(recipe)}, is_quick=is_quick)


def lightly(*, data: str, is_quick: bool, steps: int) -> dict[str, Any]:
    """Images/s of our dino preset (image term alone) and of the loop in lightly's documentation on the same images."""
    changes = (
        "objective.patch_weight=0",
        "objective.koleo=0",
        "objective.hidden=0",
        "views.image_px=112",
        "views.local_px=64",
        "views.local_views=4",
    )
    recipe = _recipe(Path(data), "dino", "lightly", steps=steps, is_quick=is_quick, changes=changes)
    loops = {"ours": lambda: _run_seconds(recipe), "lightly": _lightly_loop(recipe)}
    return _in_turn(recipe, loops, is_quick=is_quick)


def _in_turn(recipe: PretrainRecipe, seconds_of: dict[str, Callable[[], float]], *, is_quick: bool) -> dict[str, Any]:
    """Images/s of two loops over the recipe's steps, round by round, and how much faster the first is."""
    images = recipe.optim.steps * recipe.optim.batch
    rounds = range(1 if is_quick else _ROUNDS)
    timed = [{name: images / seconds() for name, seconds in seconds_of.items()} for _ in rounds]
    first, second = seconds_of
    ratios = [one[first] / one[second] for one in timed]
    rates = {name: [one[name] for one in timed] for name in seconds_of}
    return {"images_per_s": rates, "ratio": float(np.median(ratios)), "ratios": ratios}


def _recipe(
    data: Path, preset: str, name: str, *, steps: int, is_quick: bool, changes: tuple[str, ...] = ()
) -> PretrainRecipe:
    plain = (f"optim.steps={steps}", f"round_steps={steps}", "targets=[]", *changes)
    return pool_recipe(data, preset, seed=0, name=f"speed-{name}", is_quick=is_quick, changes=plain)


def _run_seconds(recipe: PretrainRecipe) -> float:
    """Training time of a fresh run: neighbours, worker processes and steps; not the report."""
    assert recipe.output is not None
    shutil.rmtree(recipe.output, ignore_errors=True)
    return float(run(recipe).metrics["minutes"][-1]) * 60


def _bare_loop(recipe: PretrainRecipe) -> Callable[[], float]:
    side, count = recipe.views.image_px, recipe.optim.batch
    objective = recipe.objective.build(recipe.backbone.build(), TextTable.empty(), side_px=side)
    optimiser = build_optimiser(objective, recipe.optim)
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 2, side, side, 3), dtype=torch.uint8, generator=random)
    unknown = torch.full((count,), UNKNOWN)
    facts = Facts(torch.arange(count), unknown, unknown, torch.full((count, 10), UNKNOWN))
    batch = Batch(pixels, pixels, pixels[:, :0], torch.arange(count), facts)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            losses = objective(batch)
        losses["total"].backward()
        nn.utils.clip_grad_norm_(objective.parameters(), recipe.optim.clip)
        optimiser.step()
        optimiser.zero_grad()

    return _timed(step, recipe.optim.steps)


def _timed(step: Callable[[], None], steps: int) -> Callable[[], float]:
    step()

    def seconds() -> float:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        return time.perf_counter() - start

    return seconds


def _lightly_loop(recipe: PretrainRecipe) -> Callable[[], float]:
    """As in lightly's documentation of DINO; network, attention, crops, batch, precision and worker are ours."""
    try:
        from lightly.data import LightlyDataset
        from lightly.loss import DINOLoss
        from lightly.models.modules import DINOProjectionHead
        from lightly.models.utils import update_momentum
        from lightly.transforms.dino_transform import DINOTransform
    except ImportError:
        raise NotRunError("lightly is not installed: pip install 'pangu-cv[dino]'") from None
    views = recipe.views
    backbone: Any = BackboneConfig(name=BACKBONE).build().network.requires_grad_(True).train()
    for block in backbone.blocks:
        block.attn.fused_attn = False  # as ours on a CPU, where the backward pass of the fused one is slow
    teacher: Any = copy.deepcopy(backbone).requires_grad_(False)
    head, teacher_head = (DINOProjectionHead(192, 512, 128, 2048) for _ in range(2))
    teacher_head.load_state_dict(head.state_dict())
    teacher_head.requires_grad_(False)
    loss_of = DINOLoss(2048, warmup_teacher_temp_epochs=0)
    optimiser = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], lr=recipe.optim.lr)
    transform = DINOTransform(
        global_crop_size=views.image_px,
        local_crop_size=views.local_px,
        n_local_views=views.local_views,
        solarization_prob=0,
    )
    folder = _linked(recipe)
    loader: DataLoader[Any] = DataLoader(
        LightlyDataset(str(folder), transform=transform),
        batch_size=recipe.optim.batch,
        shuffle=True,
        drop_last=True,
        num_workers=recipe.engine.workers,
    )

    def step(crops: list[Tensor]) -> None:
        update_momentum(backbone, teacher, m=0.996)
        update_momentum(head, teacher_head, m=0.996)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                slow = [teacher_head(teacher(crop)) for crop in crops[:2]]
            quick = [head(backbone(crop)) for crop in crops]
            loss = loss_of(slow, quick, epoch=0)
        loss.backward()
        head.cancel_last_layer_gradients(0)
        nn.utils.clip_grad_norm_(backbone.parameters(), recipe.optim.clip)
        optimiser.step()
        optimiser.zero_grad()

    def seconds() -> float:
        start, done = time.perf_counter(), 0
        while done < recipe.optim.steps:
            for crops, *_ in loader:
                step(crops)
                done += 1
                if done == recipe.optim.steps:
                    break
        return time.perf_counter() - start

    return seconds


def _linked(recipe: PretrainRecipe) -> Path:
    """One folder with all images of the pools, as lightly wants them."""
    folder = RUNS / "lightly-images"
    images = gather(recipe.data, seed=0, text_template=None)
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for number, path in enumerate(images.paths):
            (folder / f"{number:05d}{path.suffix}").symlink_to(path)
    return folder
