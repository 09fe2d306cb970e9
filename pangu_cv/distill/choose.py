"""Which network is taught: a sub-model of the teacher within the budget, or another network of timm's.

What can be refused is refused before the teacher looks at the images (``plan``). What was chosen is kept in the run
folder with what it learnt in its trials, so that a killed run goes on behind it.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pangu_cv.distill.another import Input, input_within
from pangu_cv.distill.budget import Budget, Cost
from pangu_cv.distill.costs import Costs, costs_and_budget
from pangu_cv.distill.extraction import sub_config
from pangu_cv.distill.images import Seen
from pangu_cv.distill.importance import importance_on
from pangu_cv.distill.latency import Origin
from pangu_cv.distill.pupil import Pupil
from pangu_cv.distill.recipe import DistillRecipe, ExtractConfig, TimmConfig
from pangu_cv.distill.search import Candidate, Extractor, search, within
from pangu_cv.distill.settle import Settler
from pangu_cv.distill.shape import Shape, lattice, require_plain, whole
from pangu_cv.distill.stopwatch import Stopwatch
from pangu_cv.distill.student import read_depth, side_multiple, student_levels, with_network
from pangu_cv.distill.teaching import Lesson
from pangu_cv.distill.whole_graphs import another_network
from pangu_cv.models.kept import Kept
from pangu_cv.tasks import TaskModel


@dataclass(frozen=True)
class SubModels:
    """What there is to choose from: the teacher's own shape, its sub-models, what they cost and what they may."""

    own: Shape
    shapes: list[Shape]
    costs: Costs
    budget: Budget


@dataclass(frozen=True)
class Chosen:
    """The student before its teaching proper, its use of the budget when it was chosen, all that were looked at, and
    where a device was measured the milliseconds there of student and teacher."""

    pupil: Pupil
    shape: Shape | None
    use: float
    candidates: tuple[Candidate, ...]
    device_ms: tuple[float, float] | None


def plan(
    recipe: DistillRecipe, stopwatch: Stopwatch, seen: Seen, folder: Path, *, key: str, origin: Origin
) -> SubModels | Input:
    """Times and bounds, kept in the run's ``folder``; raises SettingsError where no student is within the budget."""
    if isinstance(recipe.student, TimmConfig):
        return input_within(
            recipe.budget,
            recipe.student,
            stopwatch,
            folder,
            key=key,
            origin=origin,
            normal_images=seen.remembered,
        )
    own, shapes = sub_models(recipe.student, stopwatch.teacher)
    costs, budget = costs_and_budget(recipe.budget, stopwatch.teacher, own, shapes, folder, key=key, origin=origin)
    within(shapes, costs, budget, slack=recipe.budget.slack)
    return SubModels(own, shapes, costs, budget)


def choose(
    recipe: DistillRecipe,
    planned: SubModels | Input,
    lesson: Lesson,
    seen: Seen,
    stopwatch: Stopwatch,
    folder: Path,
    *,
    key: str,
) -> Chosen:
    """By the recipe and its plan; ``folder`` is the run's."""
    if isinstance(planned, Input):
        assert isinstance(recipe.student, TimmConfig), "an input is planned for another network"
        with torch.random.fork_rng([]):
            torch.manual_seed(recipe.seed)  # of random weights, where they are asked for
            model = another_network(lesson.teacher, recipe.student, image_px=planned.image_px)
        return Chosen(lesson.begin(model), None, planned.use, (), planned.device_ms)
    assert isinstance(recipe.student, ExtractConfig), "sub-models are planned to be taken out"
    kept = Kept(folder / "chosen.ckpt", key)
    if stored := kept.read():
        return _kept(stored, lesson)
    chosen, plain = _extracted(recipe, recipe.student, planned, lesson, seen, stopwatch)
    kept.write({"state": chosen.pupil.state_dict(), "plain": plain})
    return chosen


def sub_models(student: ExtractConfig, teacher: TaskModel) -> tuple[Shape, list[Shape]]:
    """The teacher's own shape as far as it is read, and its sub-models; raises SettingsError where it has none."""
    require_plain(teacher.backbone)
    own = whole(teacher.backbone, image_px=teacher.config.preprocess.image_px, depth=read_depth(teacher))
    shapes = lattice(
        own,
        student.lattice,
        patch_px=int(teacher.backbone.network.patch_embed.patch_size[0]),
        multiple_px=side_multiple(teacher),
        least_depth=5 - min(student_levels(teacher)),
    )
    return own, shapes


def _extracted(
    recipe: DistillRecipe,
    student: ExtractConfig,
    planned: SubModels,
    lesson: Lesson,
    seen: Seen,
    stopwatch: Stopwatch,
) -> tuple[Chosen, str]:
    """A sub-model of the teacher, and as text what is kept of the choice."""
    teacher, slack = lesson.teacher, recipe.budget.slack
    costs, budget, shapes, depth = planned.costs, planned.budget, planned.shapes, planned.own.depth
    settler = None
    if recipe.budget.is_measured_here:
        costs, settler = _settler(planned, seen, stopwatch, slack=slack)
    extractor = Extractor(teacher, importance_on(teacher, lesson, depth), lesson, depth)
    found = search(extractor, shapes, costs, budget, student, slack=slack, settler=settler)
    use, cost = budget.use(found.chosen.cost), found.chosen.cost
    device_ms = (cost.ms, costs.table.whole_ms) if recipe.budget.asks_time and recipe.budget.table else None
    plain = json.dumps([asdict(found.chosen.shape), use, [asdict(one) for one in found.candidates], device_ms])
    return Chosen(found.pupil, found.chosen.shape, use, found.candidates, device_ms), plain


def _settler(planned: SubModels, seen: Seen, stopwatch: Stopwatch, *, slack: float) -> tuple[Costs, Settler]:
    """Costs set right at one whole sub-model near the budget, and what corrects those that are to be taught."""
    costs, budget, shapes = planned.costs, planned.budget, planned.shapes

    def measured(shape: Shape) -> float:
        return costs.table.whole_ms * stopwatch.share(shape, normal_images=seen.remembered)

    near = sorted(within(shapes, costs, budget, slack=slack))
    probe = near[len(near) // 2]
    corrected = costs.corrected_by(probe, measured(probe))
    return corrected, Settler(measured, corrected, budget, shapes)


def _kept(stored: dict[str, Any], lesson: Lesson) -> Chosen:
    plain, use, candidates, device_ms = json.loads(stored["plain"])
    shape, teacher = Shape(**plain), lesson.teacher
    config = sub_config(teacher.backbone.config, shape, levels=student_levels(teacher))
    pupil = lesson.begin(with_network(teacher, config, image_px=shape.image_px))
    pupil.load_state_dict(stored["state"])
    return Chosen(pupil, shape, use, tuple(_candidate(one) for one in candidates), device_ms and tuple(device_ms))


def _candidate(plain: dict[str, Any]) -> Candidate:
    return Candidate(**{**plain, "shape": Shape(**plain["shape"]), "cost": Cost(**plain["cost"])})
