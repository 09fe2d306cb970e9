"""Another network's times on the device: its whole graph at every side it may have, in a kit beside the teacher's.

There are few sides, so that nothing needs to be added up of parts, as is done for sub-models (``latency``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_cv.distill.budget import BudgetConfig, Cost
from pangu_cv.distill.latency import (
    WHOLE,
    Origin,
    image_probe,
    no_such_table,
    read_measured,
    times_of_an_image,
    write_record,
)
from pangu_cv.distill.recipe import TimmConfig
from pangu_cv.distill.stopwatch import millions, with_full_memory
from pangu_cv.distill.student import side_multiple, with_network
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.progress import bar
from pangu_cv.staging import staged_folder
from pangu_cv.tasks import TaskModel
from pangu_cv.tasks.graph import write_graph


@dataclass(frozen=True)
class DeviceTimes:
    """Milliseconds of an image: the teacher's, and the student's at every side in pixels."""

    teacher_ms: float
    ms_by_side: dict[int, float]

    def costs(self, model: TaskModel, teacher: TaskModel) -> tuple[Cost, Cost]:
        """Of the student at its side, and of the teacher; their sizes are counted."""
        ms = self.ms_by_side[model.config.preprocess.image_px]
        return Cost.counted(ms, millions(model)), Cost.counted(self.teacher_ms, millions(teacher))


def another_network(teacher: TaskModel, student: TimmConfig, *, image_px: int) -> TaskModel:
    """The teacher's task on the network; its head is not fitted yet."""
    config = BackboneConfig(name=student.name, weights=student.weights, levels=_levels(student, teacher))
    return with_network(teacher, config, image_px=image_px)


def _levels(student: TimmConfig, teacher: TaskModel) -> tuple[int, ...]:
    return student.levels or teacher.backbone.config.levels


def sides_of(student: TimmConfig, teacher: TaskModel) -> Sequence[int]:
    """Sides of the input that are tried, the largest first."""
    if student.image_px:
        return [student.image_px]
    own: int = teacher.config.preprocess.image_px
    multiple = max(side_multiple(teacher), 32)
    return sorted({own, *range(2 * multiple, own, multiple)}, reverse=True)


def write_whole_kit(
    teacher: TaskModel, student: TimmConfig, folder: Path, *, origin: Origin, normal_images: int
) -> None:
    """The graphs and ``probes.json``, whole or not at all; no time hangs on weights, so they are random."""
    unlearnt = student.model_copy(update={"weights": "random"})
    probes: list[dict[str, Any]] = [image_probe(WHOLE, origin)]
    sides = sides_of(student, teacher)
    with staged_folder(folder, replaces="probes.json") as staging, bar("writing probes") as progress:
        write_graph(teacher, staging / f"{WHOLE}.onnx", classes=())
        for done, side in enumerate(sides, start=1):
            name = _name(student, teacher, side)
            model = with_full_memory(another_network(teacher, unlearnt, image_px=side), normal_images=normal_images)
            write_graph(model, staging / f"{name}.onnx", classes=())
            probes.append(image_probe(name, origin))
            progress(done, len(sides))
        write_record(staging, probes, origin)


def read_device_times(budget: BudgetConfig, student: TimmConfig, teacher: TaskModel, origin: Origin) -> DeviceTimes:
    """From ``budget.table``; raises SettingsError where it is of another kit."""
    assert budget.table is not None, "there is a table to read"
    measured = read_measured(budget.table)
    try:
        ms = times_of_an_image(measured, origin, threads=budget.threads)
        return DeviceTimes(ms[WHOLE], {side: ms[_name(student, teacher, side)] for side in sides_of(student, teacher)})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise no_such_table(error) from None


def _name(student: TimmConfig, teacher: TaskModel, side: int) -> str:
    """With the depths that are read: a student read elsewhere is another graph."""
    levels = "".join(str(level) for level in _levels(student, teacher))
    return f"{student.name.replace('/', '-')}-{levels}-{side}"
