"""The steps of a run, in rounds: neighbours anew, train, probe, save. A killed run goes on at its last round.

Lightning Fabric brings devices, strategies and precision; all that is random follows from (seed, step), so that a run
that was killed ends with the same weights as one that was not (on a GPU, as far as its sums have an order).
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import cv2
import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from pangu_cv.errors import DataError, PanguError, SettingsError
from pangu_cv.models.gpu import words_for_full_memory
from pangu_cv.pretrain.batches import Batch, Feed
from pangu_cv.pretrain.neighbours import IntArray, nearest_images, of_all, sample
from pangu_cv.pretrain.objectives import Objective
from pangu_cv.pretrain.optimiser import set_rate
from pangu_cv.pretrain.recipe import PretrainRecipe
from pangu_cv.pretrain.scores import Score
from pangu_cv.pretrain.state import State
from pangu_cv.pretrain.telling import loss_text, tell
from pangu_cv.progress import bar

_EMBED_BATCH = 64
_LESS_MEMORY = "cut the batch into parts (optim.accumulate), or take engine.checkpointing=true or a smaller optim.batch"


class DivergedError(PanguError):
    """A loss or a gradient that is not a number."""


@dataclass(frozen=True)
class Parts:
    """What the loop works with; ``network`` is what Fabric made of the objective."""

    fabric: Fabric
    objective: Objective
    network: Any
    optimiser: Any
    feed: Feed
    folder: Path


def train(
    recipe: PretrainRecipe, parts: Parts, *, key: str, probe: Callable[[], list[Score]], keep: Callable[[State], None]
) -> State:
    """Run to the end or until the probes get no better; ``keep`` is called after every round."""
    state = _resumed(parts, key)
    if not state.rounds:
        state.rounds.append(probe())
        state.minutes.append(0.0)
        keep(state)
    _tell(recipe, parts, state)
    while state.step < recipe.optim.steps and (recipe.learns_beside_probes or state.is_stale < recipe.patience):
        end = min(recipe.optim.steps, state.step + recipe.round_steps)
        start = time.perf_counter()
        _round(recipe, parts, state, end)
        state.minutes.append(state.minutes[-1] + (time.perf_counter() - start) / 60)
        state.rounds.append(probe())
        keep(state)
        save(parts, key, state)
        _tell(recipe, parts, state)
    return state


def _tell(recipe: PretrainRecipe, parts: Parts, state: State) -> None:
    if parts.fabric.is_global_zero:
        tell(parts.folder, state, steps=recipe.optim.steps, round_steps=recipe.round_steps)


def _round(recipe: PretrainRecipe, parts: Parts, state: State, end: int) -> None:
    near_MK = _neighbours(recipe, parts, state.step, end)
    parts.network.train()
    steps, cut = recipe.optim.steps, recipe.optim.accumulate
    with bar("pretraining") as progress:
        for step, batch in enumerate(parts.feed.batches(state.step, end, near_MK), start=state.step):
            torch.manual_seed(int(np.random.SeedSequence([recipe.seed, 4, step, parts.feed.rank]).generate_state(1)[0]))
            rate = set_rate(parts.optimiser, recipe.optim, step)
            with words_for_full_memory(_LESS_MEMORY):
                losses, norm = _step(parts, batch.to(parts.fabric.device), recipe.optim.clip, cut)
            if not np.isfinite([losses["total"], norm]).all():
                what = "gradient" if np.isfinite(losses["total"]) else "loss"
                _diverged(recipe, parts, batch, f"the {what} was not a number at step {step}")
            state.history.append({"step": step, "rate": rate, **losses})
            progress(step + 1, steps, loss_text(losses))
    state.step = end


def _step(parts: Parts, batch: Batch, clip: float, cut: int) -> tuple[dict[str, float], float]:
    """Forward, backward, update; losses as numbers, means over the parts and over all processes, and the gradient's
    norm before it was clipped. Where one of them is no number the weights stay as they are."""
    sums: dict[str, Tensor] = {}
    pieces = list(_pieces(batch, cut))
    for number, piece in enumerate(pieces):
        with parts.fabric.no_backward_sync(parts.network, enabled=number + 1 < len(pieces)):
            losses = parts.network(piece)
            parts.fabric.backward(losses["total"] / len(pieces))
        for name, loss in losses.items():
            sums[name] = sums.get(name, torch.zeros((), device=loss.device)) + loss.detach().float() / len(pieces)
    names = sorted(sums)
    values = torch.stack([sums[name] for name in names])
    if parts.feed.world > 1:
        values = parts.fabric.all_reduce(values, reduce_op="mean")  # type: ignore[assignment]
    norm = parts.fabric.clip_gradients(parts.network, parts.optimiser, max_norm=clip, error_if_nonfinite=False)
    assert norm is not None
    whole = norm.full_tensor() if isinstance(norm, DTensor) else norm
    values = torch.cat([values, whole.detach().float().view(1)])
    if bool(torch.isfinite(values).all()):
        parts.optimiser.step()
        parts.objective.after_step()
    parts.optimiser.zero_grad()
    *numbers, length = values.tolist()
    return dict(zip(names, numbers, strict=True)), length


def _pieces(batch: Batch, cut: int) -> Iterator[Batch]:
    """Runs of a batch: an image and the neighbour brought along for it stand beside each other."""
    for rows in torch.arange(len(batch.inputs)).chunk(cut):
        yield batch.rows(rows) if cut > 1 else batch


def _neighbours(recipe: PretrainRecipe, parts: Parts, first: int, end: int) -> Tensor:
    """Lists for steps ``first`` to ``end``, from the weights as they are: int64[M,K]; K is 0 where no term asks."""
    images = parts.feed.images
    objective = recipe.objective
    if objective.kind != "joint" or not objective.contrast:
        return torch.zeros(len(images.paths), 0, dtype=torch.int64)
    if not objective.neighbours.weight and not (objective.labels.weight and objective.labels.only_near):
        return torch.zeros(len(images.paths), 0, dtype=torch.int64)
    sample_P = sample(images.source_M, parts.feed.hosts(first, end), seed=[recipe.seed, 5, first])
    features_PD = parts.objective.as_a_whole(lambda: embed(parts, sample_P)).to(parts.fabric.device)
    source_P = torch.from_numpy(images.source_M[sample_P])
    near_PK = nearest_images(
        features_PD, k=objective.neighbours.k, source_M=source_P, mutual=objective.neighbours.mutual
    )
    # One list for all: each process cuts its share out of it, and near ties may fall otherwise on another GPU.
    near_PK = torch.as_tensor(parts.fabric.broadcast(near_PK))
    return of_all(near_PK, torch.from_numpy(sample_P), len(images.paths))


@torch.no_grad()
def embed(parts: Parts, numbers_P: IntArray) -> Tensor:
    """Pooled vectors of all levels of some images, standardised within each dataset and of unit length per level,
    float32[P,D]."""
    objective, images = parts.objective, parts.feed.images
    paths = [images.paths[number] for number in numbers_P.tolist()]
    side = parts.feed.views.image_px
    was_training = objective.training
    objective.eval()
    found: list[Tensor] = []
    with bar("neighbours") as progress, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), _EMBED_BATCH):
            seen = pool.map(lambda path: square(parts.feed.cache.read(path), side), paths[start : start + _EMBED_BATCH])
            batch = torch.from_numpy(np.stack(list(seen))).to(parts.fabric.device)
            with parts.fabric.autocast():
                encoded = objective.encoder(objective.normal(batch))
            found.append(torch.cat([part.float().cpu() for part in encoded.pooled], 1))
            progress(min(start + _EMBED_BATCH, len(paths)), len(paths))
    objective.train(was_training)
    features_PD = torch.cat(found)
    source_P = images.source_M[numbers_P]
    for source in np.unique(source_P).tolist():
        rows = torch.from_numpy(np.flatnonzero(source_P == source))
        own = features_PD[rows]
        features_PD[rows] = (own - own.mean(0)) / (own.std(0, unbiased=False) + 1e-6)
    levels = torch.split(features_PD, objective.encoder.widths, 1)
    return torch.cat([nn.functional.normalize(level, dim=1) for level in levels], 1)


def square(image_HW3: Any, side: int) -> Any:
    """The whole image as a square uint8[side,side,3]."""
    return cv2.resize(image_HW3, (side, side), interpolation=cv2.INTER_AREA)


def save(parts: Parts, key: str, state: State) -> None:
    """Weights, optimiser and state, whole or not at all."""
    target = parts.folder / "state.ckpt"
    temporary = parts.folder / ".state.ckpt.tmp"
    content = {"objective": parts.network, "optimiser": parts.optimiser, "state": state.as_text(), "key": key}
    with _temporary_files_in(parts.folder):
        parts.fabric.save(temporary, content)
    if parts.fabric.is_global_zero:
        temporary.replace(target)
    parts.fabric.barrier()


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Lightning writes to a temporary file first: on the disk that was chosen, not on a small /tmp."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _resumed(parts: Parts, key: str) -> State:
    """Where a run of the same recipe on the same images left off, or the start.

    Raises SettingsError where the folder holds a run on other images, or one begun by a version whose states say less:
    its model would be written over. Raises DataError for a state that is torn.
    """
    path = parts.folder / "state.ckpt"
    share = float(parts.fabric.all_reduce(torch.tensor(float(path.exists())), reduce_op="mean"))  # type: ignore[arg-type]
    if 0 < share < 1:  # of the processes; all of them stop
        raise SettingsError(f"output: '{parts.folder}' is not one folder on all machines; name one that they share")
    if not share:
        return State()
    if path.is_file() and _stored(path).get("key") != key:
        raise SettingsError(
            f"output: '{parts.folder}' holds a run on other images, labels or targets, or begun by another version, "
            "and its model would be written over; name a new folder, or remove this one"
        )
    content: dict[str, Any] = {"objective": parts.network, "optimiser": parts.optimiser, "state": "", "key": ""}
    parts.fabric.load(path, content, weights_only=True)
    return State.from_text(str(content["state"]))


def _stored(path: Path) -> dict[str, Any]:
    try:
        return dict(torch.load(path, map_location="cpu", mmap=True, weights_only=True))
    except (RuntimeError, EOFError, TypeError, ValueError, UnpicklingError) as error:
        first = str(error).partition("\n")[0]
        raise DataError(
            f"{path}: is not as it was written ({type(error).__name__}: {first}); remove it, and the run begins anew"
        ) from None


def _diverged(recipe: PretrainRecipe, parts: Parts, batch: Batch, what: str) -> None:
    """Keep the batch that did it, each process its part, and stop."""
    part = f"-{parts.feed.rank}" if parts.feed.rank else ""
    place, model = parts.folder / f"bad_batch{part}.npz", parts.folder / "model"
    arrays = {name: getattr(batch, name) for name in ("inputs", "clean", "local", "seed_B")} | batch.facts._asdict()
    np.savez_compressed(place, **{name: array.cpu().numpy() for name, array in arrays.items()})
    names = [str(parts.feed.images.paths[int(number)]) for number in batch.facts.image_N]
    place.with_suffix(".txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    parts.fabric.barrier()  # a process that ends takes the others with it, while they still write
    precise = "" if recipe.engine.precision == "32-true" else " or engine.precision=32-true"
    calmer = f"optim.lr={recipe.optim.lr / 3:.2g}"
    if recipe.restores and recipe.objective.kind == "joint":
        calmer += f" objective.repair.lr={recipe.objective.repair.lr / 3:.2g}"
    raise DivergedError(
        f"pretrain: {what}. The batch is in {place} (files in {place.stem}.txt); the best weights so far are kept in "
        f"{model}. The same recipe stops there again: run with {calmer}{precise} and a new "
        f"folder as output; with backbone.weights={model} it starts from those weights"
    )
