"""What models cost: measured of those that exist, expected of those that could."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pangu_cv.distill.budget import BudgetConfig, Cost
from pangu_cv.distill.latency import WHOLE, ByArithmetic, LatencyTable, read_table, write_kit
from pangu_cv.distill.shape import Shape
from pangu_cv.errors import SettingsError
from pangu_cv.progress import bar
from pangu_cv.tasks import TaskModel
from pangu_cv.tasks.graph import write_graph
from pangu_runtime.probes import measure_probes

_GRAPH_MB = 0.1  # of a graph beside its weights


@dataclass
class Costs:
    """Expected costs of sub-models; ``correction`` is what the sum of parts is out by."""

    table: LatencyTable | ByArithmetic
    params_of: Callable[[Shape], float]
    correction: float = 1.0
    _known: dict[Shape, float] = field(default_factory=dict)

    def __call__(self, shape: Shape) -> Cost:
        """Of a sub-model."""
        if shape not in self._known:
            self._known[shape] = self.params_of(shape)
        params = self._known[shape]
        return Cost(self.correction * self.table.predict(shape), params, 4 * params + _GRAPH_MB)

    def corrected_by(self, shape: Shape, ms: float) -> "Costs":
        """The same, such that this sub-model costs what it was measured to."""
        return replace(self, correction=ms / self.table.predict(shape))


def millions(model: TaskModel) -> float:
    """Of parameters; what a head or a bank keeps as plain tensors counts too."""
    tensors = {name: tensor.numel() for name, tensor in model.state_dict().items()}
    return float(sum(tensors.values())) / 1e6


def measured_table(
    teacher: TaskModel, shapes: list[Shape], budget: BudgetConfig, folder: Path, *, image_hw: tuple[int, int]
) -> dict[str, Any]:
    """Write the kit, measure it here."""
    write_kit(teacher, shapes, folder, image_hw=image_hw)
    with bar("measuring probes") as progress:
        return measure_probes(folder, threads=budget.threads, progress=progress)


def table_of(measured: dict[str, Any], teacher: TaskModel, shapes: list[Shape], whole: Shape) -> LatencyTable:
    """The table, with the teacher's own time for what the sum of its parts is out by."""
    table = read_table(measured, teacher, shapes)
    if table.predict(whole) <= 0:
        raise SettingsError("budget.table: times of nothing or less; measure the kit again")
    return table


def measure(
    model: TaskModel, *, beside: TaskModel, threads: int | None, image_hw: tuple[int, int]
) -> tuple[Cost, Cost]:
    """Both as graphs in ONNX Runtime, timed in turn: the model's cost, and that of the one beside it."""

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        probes = []
        for label, one in (("model", model), (WHOLE, beside)):
            write_graph(one, folder / f"{label}.onnx", classes=())
            given = {"name": "image", "dtype": "uint8", "shape": [1, *image_hw, 3]}
            probes.append({"name": label, "file": f"{label}.onnx", "input": given})
        record = {"format": "pangu-cv-probes", "version": 1, "probes": probes}
        folder.joinpath("probes.json").write_text(json.dumps(record), encoding="utf-8")
        ms = {n: p["ms"] for n, p in measure_probes(folder, threads=threads, rounds=10)["probes"].items()}
        sizes = {label: (folder / f"{label}.onnx").stat().st_size / 1e6 for label in ("model", WHOLE)}
    return Cost(ms["model"], millions(model), sizes["model"]), Cost(ms[WHOLE], millions(beside), sizes[WHOLE])
