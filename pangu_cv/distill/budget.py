"""What the student may cost."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, model_validator

from pangu_cv.errors import SettingsError
from pangu_cv.settings import PathSetting, Settings

Above0 = Annotated[float, Field(gt=0)]
_GRAPH_MB = 0.1  # of a graph beside its weights


class BudgetConfig(Settings):
    """At least one bound; all that are given hold."""

    latency_ms: Above0 | None = None
    """Milliseconds from one decoded image (of the median size, in all its tiles) to its decision, in ONNX Runtime."""
    latency_ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The same as a share of the teacher's own, below 1."""
    params_m: Above0 | None = None
    """Millions of parameters, the head among them."""
    size_mb: Above0 | None = None
    """Millions of bytes of the graph in full precision."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Of ONNX Runtime; null takes all cores, or the table's. A table must be measured with as many."""
    table: PathSetting | None = None
    """latency.json of the device, from 'pangu-cv profile KIT'; null measures on this machine."""
    slack: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """How far below a bound a sub-model may stay to be considered, as a share of it."""

    @property
    def asks_time(self) -> bool:
        """Whether a bound is one of time."""
        return self.latency_ms is not None or self.latency_ratio is not None

    @property
    def is_measured_here(self) -> bool:
        """Whether times are this machine's, so that whole sub-models can be timed."""
        return self.asks_time and self.table is None

    @property
    def is_counted(self) -> bool:
        """Whether there is a bound that needs no measurement."""
        return self.params_m is not None or self.size_mb is not None

    @model_validator(mode="after")
    def _some(self) -> "BudgetConfig":
        bounds = (self.latency_ms, self.latency_ratio, self.params_m, self.size_mb)
        if all(bound is None for bound in bounds):
            raise ValueError("give a bound: latency_ms, latency_ratio, params_m or size_mb")
        return self


@dataclass(frozen=True)
class Cost:
    """Of a model: milliseconds, millions of parameters, millions of bytes."""

    ms: float
    params_m: float
    size_mb: float

    @classmethod
    def counted(cls, ms: float, params_m: float) -> "Cost":
        """Of a graph that was not written: four bytes a parameter, and what lies beside them."""
        return cls(ms, params_m, 4 * params_m + _GRAPH_MB)


@dataclass(frozen=True)
class Budget:
    """Bounds as absolute numbers; None where there is none."""

    ms: float | None
    params_m: float | None
    size_mb: float | None

    @classmethod
    def absolute(cls, config: BudgetConfig, *, teacher: Cost) -> "Budget":
        """With shares made absolute."""
        ratio = None if config.latency_ratio is None else config.latency_ratio * teacher.ms
        both = [bound for bound in (config.latency_ms, ratio) if bound is not None]
        return cls(min(both, default=None), config.params_m, config.size_mb)

    @classmethod
    def of(cls, config: BudgetConfig, *, teacher: Cost) -> "Budget":
        """The same. Raises SettingsError where the teacher is within all bounds already."""
        made = cls.absolute(config, teacher=teacher)
        if made.use(teacher) <= 1:
            raise SettingsError(
                f"budget: the teacher is within it already ({teacher.ms:.1f} ms, {teacher.params_m:.2f} M parameters, "
                f"{teacher.size_mb:.1f} MB); export it as it is, or ask for less"
            )
        return made

    def use(self, cost: Cost) -> float:
        """Share of the tightest bound that a model uses; above 1 it is too large."""
        pairs = ((cost.ms, self.ms), (cost.params_m, self.params_m), (cost.size_mb, self.size_mb))
        return max(found / bound for found, bound in pairs if bound is not None)
