"""Another network of timm's as the student: the largest input at which it is within the budget.

The input is kept in the run folder, since times differ from run to run and what was taught at one side fits no other.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from pangu_cv.distill.budget import Budget, BudgetConfig
from pangu_cv.distill.latency import Origin
from pangu_cv.distill.recipe import TimmConfig
from pangu_cv.distill.stopwatch import Stopwatch, with_full_memory
from pangu_cv.distill.whole_graphs import another_network, read_device_times, sides_of
from pangu_cv.errors import SettingsError
from pangu_cv.models.kept import Kept


@dataclass(frozen=True)
class Input:
    """Side of the student's input, the share of the budget that the student uses there, and on a device the
    milliseconds of the student and of its teacher."""

    image_px: int
    use: float
    device_ms: tuple[float, float] | None = None


def input_within(
    budget: BudgetConfig,
    student: TimmConfig,
    stopwatch: Stopwatch,
    folder: Path,
    *,
    key: str,
    origin: Origin,
    normal_images: int,
) -> Input:
    """As kept in ``folder`` under ``key``, else chosen now; raises SettingsError where no input fits.

    ``normal_images`` is how many an anomaly detector's memory would be made of.
    """
    kept = Kept(folder / "input.ckpt", key)
    if stored := kept.read():
        return Input(**stored["input"])
    chosen = _chosen(budget, student, stopwatch, origin, normal_images=normal_images)
    kept.write({"input": asdict(chosen)})
    return chosen


def _chosen(
    bounds: BudgetConfig, student: TimmConfig, stopwatch: Stopwatch, origin: Origin, *, normal_images: int
) -> Input:
    """Every input is measured whole, the largest first; a device has measured them all."""
    teacher = stopwatch.teacher
    device = None if bounds.table is None else read_device_times(bounds, student, teacher, origin)
    uses, sides = [], sides_of(student, teacher)
    for side in sides:
        model = with_full_memory(another_network(teacher, student, image_px=side), normal_images=normal_images)
        cost, of_teacher = stopwatch.time(model) if device is None else device.costs(model, teacher)
        uses.append(Budget.of(bounds, teacher=of_teacher).use(cost))
        if uses[-1] <= 1:
            return Input(side, uses[-1], None if device is None else (cost.ms, of_teacher.ms))
    raise SettingsError(
        f"budget: '{student.name}' uses {min(uses):.2f} times of it at {sides[-1]} px; name a smaller network"
    )
