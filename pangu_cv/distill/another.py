"""Another network of timm's as the student: the largest input at which it is within the budget.

The input is kept in the run folder, since times differ from run to run and what was taught at one side fits no other.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from pangu_cv.distill.budget import Budget, BudgetConfig
from pangu_cv.distill.recipe import TimmConfig
from pangu_cv.distill.stopwatch import Stopwatch
from pangu_cv.distill.student import side_multiple, with_network
from pangu_cv.errors import SettingsError
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.kept import Kept
from pangu_cv.tasks import TaskModel


@dataclass(frozen=True)
class Input:
    """Side of the student's input, and the share of the budget that the student uses there."""

    image_px: int
    use: float


def input_within(budget: BudgetConfig, student: TimmConfig, stopwatch: Stopwatch, folder: Path, *, key: str) -> Input:
    """As kept in ``folder`` under ``key``, else chosen now; raises SettingsError where no input fits."""
    kept = Kept(folder / "input.ckpt", key)
    if stored := kept.read():
        return Input(**stored["input"])
    chosen = _chosen(budget, student, stopwatch)
    kept.write({"input": asdict(chosen)})
    return chosen


def another_network(teacher: TaskModel, student: TimmConfig, *, image_px: int) -> TaskModel:
    """The teacher's task on the network; its head is not fitted yet."""
    levels = student.levels or teacher.backbone.config.levels
    config = BackboneConfig(name=student.name, weights=student.weights, levels=levels)
    return with_network(teacher, config, image_px=image_px)


def _chosen(bounds: BudgetConfig, student: TimmConfig, stopwatch: Stopwatch) -> Input:
    """Every input is measured whole, the largest first."""
    if bounds.table is not None:
        raise SettingsError(
            "budget.table: it holds times of the teacher's own parts, which tell nothing of another network; leave it "
            "out to measure on this machine"
        )
    teacher = stopwatch.teacher
    own: int = teacher.config.preprocess.image_px
    multiple = max(side_multiple(teacher), 32)
    sides = [student.image_px] if student.image_px else sorted({own, *range(2 * multiple, own, multiple)}, reverse=True)
    uses = []
    for side in sides:
        cost, of_teacher = stopwatch.time(another_network(teacher, student, image_px=side))
        uses.append(Budget.of(bounds, teacher=of_teacher).use(cost))
        if uses[-1] <= 1:
            return Input(side, uses[-1])
    raise SettingsError(
        f"budget: '{student.name}' uses {min(uses):.2f} times of it at {sides[-1]} px; name a smaller network"
    )
