"""Gradient training of a task's head, and of as much of the backbone as the recipe's way of adapting says.

Lightning's Trainer brings devices and precision; all that is random follows from (seed, step). The schedule follows the
steps, or the clock where a time limit comes sooner, so that a run that must end early has cooled down too.
"""

import json
import logging
import math
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pangu_cv.models.adapt import Group
from pangu_cv.models.arithmetic import best_precision, keep_freed_memory
from pangu_cv.models.backbone import Backbone
from pangu_cv.models.freezing import Freezing
from pangu_cv.models.gpu import usable_gpu, words_for_full_memory
from pangu_cv.models.kept import Kept
from pangu_cv.progress import bar
from pangu_cv.settings import Settings

Positive = Annotated[int, Field(ge=1)]
Item = TypeVar("Item")
_KEPT_EVERY_SECONDS = 30.0
_MOST_KEPT = 2000  # variants of up to 3 MB each, where there are more images than a pool's size


class TrainConfig(Settings):
    """How long and how fast."""

    steps: Positive = 300
    """Optimiser steps."""
    batch: Positive = 8
    """Images of a step."""
    lr: Annotated[float, Field(gt=0)] = 2e-3
    """Highest learning rate of the head."""
    backbone_lr: Annotated[float, Field(gt=0)] = 2e-4
    """Highest learning rate of the backbone's last block, where it learns."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Of matrices."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the run."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.98
    """The model kept is a moving mean of the weights with this memory; 0 keeps the last ones."""
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    """End after so long, whatever ``steps`` says."""
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    """Of the arithmetic; auto is bf16-mixed on a GPU with units for it (since Ampere), and on a CPU with such units
    (AMX) for a ViT's blocks alone."""
    workers: Annotated[int, Field(ge=0)] = 1
    """Processes that make variants of images, where the backbone learns."""
    pool: Positive = 300
    """Variants kept in memory with what the frozen part of the backbone says of them (to 3 MB each), said once; one of
    each image where there are more images, up to 2,000."""


@dataclass
class History:
    """What a training run looked like: losses by name, a value per step; seconds; how many numbers learnt."""

    losses: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    learning: int = 0
    saved: float = 0.0
    """Share of the blocks' steps that dynamic freezing has saved."""

    def add(self, losses: dict[str, Tensor]) -> None:
        """One step."""
        for name, loss in losses.items():
            self.losses.setdefault(name, []).append(float(loss.detach()))

    def followed_by(self, other: "History") -> "History":
        """Both as one; what learnt, and what freezing has saved, is of the second."""
        losses = {name: self.losses.get(name, []) + values for name, values in other.losses.items()}
        return replace(other, losses=losses, seconds=self.seconds + other.seconds)


class Draws(Dataset[Item], Generic[Item]):
    """Items by (place, seed): each place of a list in turn, shuffled anew each round, a fresh seed each time."""

    def __init__(self, make: Callable[[int, int], Item]) -> None:
        self.make = make

    def __getitem__(self, key: tuple[int, int]) -> Item:
        return self.make(*key)


class Pool(Generic[Item]):
    """A fixed number of variants, each made once and kept: what a frozen backbone says of them does not change.

    About ``size`` variants of the images at ``paths``, or one of each; of very many images the first ``_MOST_KEPT``
    are kept and the others made anew each time. ``kept`` are those of an earlier training, by path and number.
    """

    def __init__(
        self,
        make: Callable[[int, int], Item],
        paths: Sequence[Path],
        *,
        size: int,
        kept: dict[tuple[Path, int], Item] | None = None,
    ) -> None:
        self.make, self.paths, self.each = make, paths, max(1, size // len(paths))
        self.most = max(size, _MOST_KEPT)
        self._kept = {} if kept is None else kept

    def __call__(self, place: int, seed: int) -> Item:
        """One of the variants of a place."""
        path, number = self.paths[place], seed % self.each
        item = self._kept.get((path, number))
        if item is None:
            item = self.make(place, number * 7919 + zlib.crc32(path.name.encode()))
            if len(self._kept) < self.most:
                self._kept[path, number] = item
        return item


def keys(count: int, *, batch: int, steps: int, seed: int) -> Iterator[list[tuple[int, int]]]:
    """The (place, seed) pairs of every step: all places come equally often."""
    random = np.random.default_rng([seed, count])
    waiting: list[int] = []
    for _ in range(steps):
        while len(waiting) < batch:
            waiting += random.permutation(count).tolist()
        chosen, waiting = waiting[:batch], waiting[batch:]
        yield [(place, int(random.integers(2**62))) for place in chosen]


def train(
    model: nn.Module,
    groups: Sequence[Group],
    make: Callable[[int, int], Any],
    losses_of: Callable[[list[Any]], dict[str, Tensor]],
    *,
    count: int,
    config: TrainConfig,
    seed: int,
    settled: float = 0.0,
    resume: Kept | None = None,
) -> History:
    """Train what is marked as learning; ``make(place, seed)`` is one example, ``losses_of`` a batch's weighted losses.

    ``groups`` are the learning parts of the backbone, the deepest first; all other learning parameters of ``model``
    are the head's. With a ``Pool`` examples are made here and not in worker processes. ``settled`` is as in
    ``Partial``. With ``resume`` a killed training goes on where it was last kept (dropout would differ). The model ends
    in eval mode with averaged weights.
    """
    keep_freed_memory()
    stored = resume.read() if resume else {}
    done = int(stored.get("step", 0))
    history = History(losses=json.loads(stored["losses"]) if stored else {})
    clock = _Clock(config, spent=float(stored.get("seconds", 0.0)))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), bar("training") as progress:
        torch.manual_seed(seed)
        warnings.simplefilter("ignore")  # Lightning advises on workers and loggers
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)
        loader = DataLoader(
            Draws(make),
            batch_sampler=list(keys(count, batch=config.batch, steps=config.steps, seed=seed))[done:],  # type: ignore[arg-type]
            num_workers=0 if isinstance(make, Pool) else config.workers,
            collate_fn=list,
            persistent_workers=False,
        )
        learner = _Learner(model, _parameters(model, groups, config), losses_of, config, clock, history, progress)
        learner.done, learner.stored = done, stored.get("optimiser")
        average = _Average(model, config.ema)
        callbacks: list[Callback] = [average] if config.ema else []
        if stored:
            model.load_state_dict(stored["model"])
            average.mean, average.steps = stored["mean"], done
        freezing = Freezing(groups, settled, warm=round(config.warmup * config.steps))
        if settled:
            callbacks.append(freezing)
            freezing.restore(stored.get("freezing"))
        if resume:
            callbacks.append(_Keeping(resume, learner, average, freezing))
        trainer = Trainer(
            max_epochs=1,
            accelerator="cuda" if usable_gpu() else "cpu",
            devices=1,
            precision=_precision(config),
            gradient_clip_val=config.clip,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=callbacks,
        )
        with words_for_full_memory("take a smaller train.batch, or a way of adapting that trains less (adapt.kind)"):
            trainer.fit(learner, loader)
    history.seconds, history.saved = clock.elapsed, freezing.saved
    if resume:
        resume.path.unlink(missing_ok=True)
    model.cpu().eval()
    return history


def _precision(config: TrainConfig) -> str:
    """Of a head's convolutions: bf16 ones go backwards ten times slower than fp32 ones on a CPU (torch 2.15)."""
    if config.precision != "auto":
        return config.precision
    return best_precision(on_gpu=True) if usable_gpu() else "32-true"


def suits_bf16(backbone: Backbone, config: TrainConfig, *, on_gpu: bool) -> bool:
    """A ViT's matrix products gain from it wherever there are units for it, a CNN's convolutions on a GPU alone.

    ``on_gpu`` says where the pass in question is computed, not what the machine has.
    """
    if config.precision != "auto":
        return config.precision == "bf16-mixed"
    return best_precision(on_gpu=on_gpu) == "bf16-mixed" and (on_gpu or hasattr(backbone.network, "num_prefix_tokens"))


class _Clock:
    """How far a run is, from 0 to 1: by steps, or by time where that is further."""

    def __init__(self, config: TrainConfig, *, spent: float = 0.0) -> None:
        self.config, self.spent, self.start = config, spent, time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.start + self.spent

    def share(self, step: int) -> float:
        limit = self.config.max_seconds
        by_time = self.elapsed / limit if limit else 0.0
        return min(1.0, max(step / self.config.steps, by_time))

    def rate(self, step: int) -> float:
        """The learning rate's share: up during the warm-up, then a cosine down to nothing."""
        share, warm = self.share(step), self.config.warmup
        if share < warm:
            return max(share / warm, 1 / max(1.0, warm * self.config.steps))
        return 0.5 + 0.5 * math.cos(math.pi * (share - warm) / (1 - warm))


class _Learner(LightningModule):  # type: ignore[misc]
    def __init__(
        self,
        model: nn.Module,
        parameters: list[dict[str, Any]],
        losses_of: Callable[[list[Any]], dict[str, Tensor]],
        config: TrainConfig,
        clock: _Clock,
        history: History,
        progress: Callable[..., None],
    ) -> None:
        super().__init__()
        self.model, self.groups, self.losses_of = model, parameters, losses_of
        self.config, self.clock, self.history, self.progress = config, clock, history, progress
        self.done, self.stored = 0, None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimiser = torch.optim.AdamW(self.groups, lr=self.config.lr, betas=(0.9, 0.99))
        if self.stored:
            optimiser.load_state_dict(self.stored)
        return optimiser

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch  # ``losses_of`` moves what it needs; Lightning refuses frozen dataclasses

    def on_train_start(self) -> None:
        self.clock.start = time.monotonic()  # starting the workers is not training

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        step = self.done + batch_idx
        if self.config.max_seconds and self.clock.share(step) >= 1:
            return -1
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["peak"] * self.clock.rate(step)
        return None

    def training_step(self, batch: list[Any], batch_idx: int) -> Tensor:
        losses = self.losses_of(batch)
        total = torch.stack(list(losses.values())).sum()
        self.history.add({"total": total, **losses})
        self.progress(self.done + batch_idx + 1, self.config.steps, f"loss {float(total.detach()):.3f}")
        return total


class _Average(Callback):  # type: ignore[misc]
    """A moving mean of what learns; it takes the place of the weights at the end."""

    def __init__(self, model: nn.Module, memory: float) -> None:
        self.model, self.memory, self.steps = model, memory, 0
        self.mean: dict[str, Tensor] = {}

    def on_train_batch_end(self, *_: Any) -> None:
        self.steps += 1
        memory = min(self.memory, self.steps / (self.steps + 10))  # a young mean must not remember the start
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                # One that was frozen on the way too: deeper ones go on learning from it as it is.
                if parameter.requires_grad or name in self.mean:
                    mean = self.mean.get(name, parameter).detach().to(parameter.device)  # kept ones are on the CPU
                    self.mean[name] = torch.lerp(mean, parameter.detach(), 1 - memory)

    def on_train_end(self, *_: Any) -> None:
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if name in self.mean:
                    parameter.copy_(self.mean[name])


class _Keeping(Callback):  # type: ignore[misc]
    """Writes all that a killed training needs to go on, every so often."""

    def __init__(self, resume: Kept, learner: _Learner, average: _Average, freezing: Freezing) -> None:
        self.resume, self.learner, self.average, self.freezing = resume, learner, average, freezing
        self.last = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if time.monotonic() - self.last < _KEPT_EVERY_SECONDS:
            return
        learner = self.learner
        content = {
            "model": learner.model.state_dict(),
            "mean": self.average.mean,
            "optimiser": trainer.optimizers[0].state_dict(),
            "freezing": self.freezing.state(),
            "step": learner.done + batch_idx + 1,
            "seconds": learner.clock.elapsed,
            "losses": json.dumps(learner.history.losses),
        }
        self.resume.write(content)
        self.last = time.monotonic()


def _parameters(model: nn.Module, groups: Sequence[Group], config: TrainConfig) -> list[dict[str, Any]]:
    inner = {id(p) for group in groups for p in group.parameters}
    head = [p for p in model.parameters() if p.requires_grad and id(p) not in inner]
    made: list[dict[str, Any]] = []
    for parameters, peak in ((head, config.lr), *((g.parameters, config.backbone_lr * g.scale) for g in groups)):
        for is_matrix in (True, False):
            chosen = [p for p in parameters if (p.ndim > 1) == is_matrix]
            if chosen:
                decay = config.weight_decay if is_matrix else 0.0
                made.append({"params": chosen, "lr": peak, "peak": peak, "weight_decay": decay})
    return made
