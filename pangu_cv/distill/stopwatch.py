"""Whole models timed as they would run: their graphs in ONNX Runtime, in turn with the teacher's.

Turns are fair on a busy machine: what slows one slows the other, and the median ratio of a turn stays. The graph is the
exporter's own; ``pangu-cv export`` may rewrite teacher and student alike into a faster one.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from pangu_cv.distill.budget import Cost
from pangu_cv.distill.extraction import sub_config
from pangu_cv.distill.latency import WHOLE, Origin, image_probe, write_record
from pangu_cv.distill.shape import Shape
from pangu_cv.distill.student import student_levels, with_network
from pangu_cv.tasks import TaskModel
from pangu_cv.tasks.anomaly import AnomalyModel
from pangu_cv.tasks.graph import write_graph
from pangu_runtime.probes import measure_probes

TIMED = "whole graphs in ONNX Runtime, in turn, as the exporter writes them and before export rewrites them"
_ROUNDS = (5, 12)  # at least, at most
_DOUBT = 0.015  # about a median ratio, with which no more rounds are needed


@dataclass(frozen=True)
class Stopwatch:
    """Times models beside ``teacher`` on an image of ``tiles`` tiles of ``image_hw`` pixels.

    The teacher's graph is written to ``folder`` once, and taken from there later: a folder is of one teacher.
    """

    teacher: TaskModel
    folder: Path
    threads: int | None
    image_hw: tuple[int, int]
    tiles: int = 1

    def time(self, model: TaskModel) -> tuple[Cost, Cost]:
        """The model's cost, and the teacher's in the same minute."""
        whole, own = self.folder / f"{WHOLE}.onnx", self.folder / "model.onnx"
        if not whole.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_graph(self.teacher, own, classes=())
            own.replace(whole)
        write_graph(model, own, classes=())
        origin = Origin(self.folder.name, self.image_hw, self.tiles)
        write_record(self.folder, [image_probe(path.stem, origin) for path in (own, whole)], origin)
        ratio, whole_ms = self._in_turn(own.stem)
        return (
            Cost(self.tiles * ratio * whole_ms, millions(model), own.stat().st_size / 1e6),
            Cost(self.tiles * whole_ms, millions(self.teacher), whole.stat().st_size / 1e6),
        )

    def _in_turn(self, name: str) -> tuple[float, float]:
        """Median ratio to the teacher's time, and that time in ms; on a restless machine of more rounds."""
        ratios: list[float] = []
        times: list[float] = []
        while len(ratios) < _ROUNDS[0] or (len(ratios) < _ROUNDS[1] and _doubt(ratios) > _DOUBT):
            found = measure_probes(self.folder, threads=self.threads, rounds=2)["probes"]
            times.append(found[WHOLE]["ms"])
            ratios.append(found[name]["ms"] / times[-1])
        return median(ratios), median(times)

    def share(self, shape: Shape, *, normal_images: int) -> float:
        """A sub-model's time over the teacher's. Its weights are random: no time hangs on them."""
        own, whole = self.time(stand_in(self.teacher, shape, normal_images=normal_images))
        return own.ms / whole.ms


def measure(
    model: TaskModel, *, beside: TaskModel, threads: int | None, image_hw: tuple[int, int]
) -> tuple[Cost, Cost]:
    """Two models once: the first one's cost, and that of the one beside it."""
    with tempfile.TemporaryDirectory() as folder:
        return Stopwatch(beside, Path(folder), threads, image_hw).time(model)


def _doubt(ratios: list[float]) -> float:
    """Standard error of the median, as a share of it, from the quartiles as of normal errors."""
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return float(1.25 * (high - low) / 1.35 / middle / len(ratios) ** 0.5)


def millions(model: TaskModel) -> float:
    """Of parameters; what a head or a bank keeps as plain tensors counts too."""
    tensors = {name: tensor.numel() for name, tensor in model.state_dict().items()}
    return float(sum(tensors.values())) / 1e6


def stand_in(teacher: TaskModel, shape: Shape, *, normal_images: int) -> TaskModel:
    """A model of the sub-model's size, its memory as of so many images."""
    config = sub_config(teacher.backbone.config, shape, levels=student_levels(teacher))
    return with_full_memory(with_network(teacher, config, image_px=shape.image_px), normal_images=normal_images)


def with_full_memory(model: TaskModel, *, normal_images: int) -> TaskModel:
    """The model, an anomaly detector with a bank of nothing, as large as so many images would fill it."""
    if isinstance(model, AnomalyModel):
        any_model: Any = model
        capacity = any_model.config.bank.build(any_model.features).capacity
        patches = any_model.grid_hw[0] * any_model.grid_hw[1]
        model.set_bank(torch.zeros(max(1, min(capacity, normal_images * patches)), any_model.features))
    return model
