"""What sub-models are expected to cost: parts measured here or on the device, or counted where no time is asked for."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from pangu_cv.distill.budget import Budget, BudgetConfig, Cost
from pangu_cv.distill.latency import ByArithmetic, LatencyTable, Origin, read_measured, read_table, write_kit
from pangu_cv.distill.shape import Shape, params_in
from pangu_cv.distill.stopwatch import millions
from pangu_cv.errors import SettingsError
from pangu_cv.progress import bar
from pangu_cv.staging import write_json
from pangu_cv.tasks import TaskModel
from pangu_runtime.probes import measure_probes


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
        return Cost.counted(self.correction * self.table.predict(shape), self._known[shape])

    def corrected_by(self, shape: Shape, ms: float) -> "Costs":
        """The same, such that this sub-model costs what it was measured to."""
        return replace(self, correction=ms / self.table.predict(shape))


def costs_and_budget(
    config: BudgetConfig,
    teacher: TaskModel,
    own: Shape,
    shapes: list[Shape],
    folder: Path,
    *,
    key: str,
    origin: Origin,
) -> tuple[Costs, Budget]:
    """Costs of all ``shapes``, and the budget in absolute numbers; ``own`` is the teacher's shape.

    What is measured here is kept in ``folder`` under ``key``.
    """
    costs, of_teacher = counted(teacher, own)
    if config.asks_time:
        table = _table(config, teacher, own, shapes, folder, key=key, origin=origin)
        costs = replace(costs, table=table).corrected_by(own, table.whole_ms)
        of_teacher = replace(of_teacher, ms=table.whole_ms)
    return costs, Budget.of(config, teacher=of_teacher)


def counted(teacher: TaskModel, own: Shape) -> tuple[Costs, Cost]:
    """Costs of sub-models and of the teacher (of shape ``own``) without a measurement, times in shares of its own."""
    network = teacher.backbone.network
    rest = millions(teacher) - float(sum(p.numel() for p in network.parameters())) / 1e6

    def params_of(shape: Shape) -> float:
        return float(rest + params_in(shape, network) / 1e6)

    costs = Costs(ByArithmetic.of(teacher, own), params_of)
    return costs, Cost(1.0, millions(teacher), costs(own).size_mb)


def _table(
    config: BudgetConfig,
    teacher: TaskModel,
    own: Shape,
    shapes: list[Shape],
    folder: Path,
    *,
    key: str,
    origin: Origin,
) -> LatencyTable:
    """The device's, else that of this machine: kept from a run that was killed, or measured now."""
    kept = folder / "latency.json"
    if config.table is not None:
        measured = read_measured(config.table)
    elif kept.is_file() and (known := read_measured(kept)).get("key") == key:
        measured = known
    else:
        write_kit(teacher, shapes, folder / "kit", origin=origin)
        with bar("measuring probes") as progress:
            measured = measure_probes(folder / "kit", threads=config.threads, progress=progress)
        write_json(kept, measured | {"key": key})
    table = read_table(measured, teacher, shapes, origin=origin, threads=config.threads)
    if table.predict(own) <= 0:
        raise SettingsError("budget.table: times of nothing or less; measure the kit again")
    return table
