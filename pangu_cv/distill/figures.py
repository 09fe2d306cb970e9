"""The figures of a run: what student and teacher cost, how alike they decide, what else could be had."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from pangu_cv.distill.budget import Budget, Cost
from pangu_cv.distill.choose import Chosen
from pangu_cv.distill.finish import Agreement
from pangu_cv.distill.recipe import DistillRecipe, ExtractConfig
from pangu_cv.distill.stopwatch import TIMED
from pangu_cv.models.training import History
from pangu_cv.tasks import TaskModel

_TOLERANCE = 0.1  # of a measured time: repeated measurements of one graph differ by as much on a busy machine
_ADDED_UP = "parts measured on the device (budget.table), added up: whole graphs can be measured on this machine alone"
_ON_DEVICE = "whole graphs measured on the device (budget.table)"


@dataclass(frozen=True)
class Outcome:
    """What a run came to; ``cost`` and ``of_teacher`` were measured at its end, on this machine."""

    chosen: Chosen
    cost: Cost
    of_teacher: Cost
    agreement: Agreement
    before: dict[str, float]
    after: dict[str, float]
    history: History
    images: int
    tiles: int


def figures(recipe: DistillRecipe, teacher: TaskModel, outcome: Outcome) -> dict[str, Any]:
    """What ``metrics.json`` holds; ``use`` is of the budget, ``timed`` says what its time is of."""
    student = outcome.chosen.pupil.model
    cost, of_teacher = _costs(outcome)
    use, timed = _use(recipe, outcome)
    return {
        "task": teacher.config.kind,
        "teacher": asdict(of_teacher),
        "student": asdict(cost),
        "ratio": cost.ms / of_teacher.ms,
        "network": {
            "name": student.backbone.config.name,
            "arguments": student.backbone.config.arguments,
            "image_px": student.config.preprocess.image_px,
        },
        "shape": str(outcome.chosen.shape) if outcome.chosen.shape else None,
        "agreement": asdict(outcome.agreement),
        "held_out_loss": {"before": outcome.before, "after": outcome.after},
        "seconds": outcome.history.seconds,
        "steps": len(outcome.history.losses.get("total", [])),
        "images": outcome.images,
        "candidates": [asdict(one) for one in outcome.chosen.candidates],
        "use": use,
        "timed": timed if outcome.tiles == 1 else f"{timed}; the median image has {outcome.tiles} tiles",
        "within": use <= 1 + _TOLERANCE,
    }


def _costs(outcome: Outcome) -> tuple[Cost, Cost]:
    """Of student and teacher: their times on the device where it was measured, else at the end on this machine."""
    if outcome.chosen.device_ms is None:
        return outcome.cost, outcome.of_teacher
    own_ms, teacher_ms = outcome.chosen.device_ms
    return replace(outcome.cost, ms=own_ms), replace(outcome.of_teacher, ms=teacher_ms)


def _use(recipe: DistillRecipe, outcome: Outcome) -> tuple[float, str]:
    """Of the budget, and what it was made out of."""
    if outcome.chosen.device_ms is not None:
        return outcome.chosen.use, _ADDED_UP if isinstance(recipe.student, ExtractConfig) else _ON_DEVICE
    return Budget.absolute(recipe.budget, teacher=outcome.of_teacher).use(outcome.cost), TIMED
