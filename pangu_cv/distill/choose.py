"""Which network is taught: a sub-model of the teacher within the budget, or another network of timm's.

What was chosen is kept in the run folder with what it learnt in its trials, so that a killed run goes on behind it.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pangu_cv.distill.budget import Budget, Cost
from pangu_cv.distill.costs import Costs, costs_and_budget
from pangu_cv.distill.extraction import sub_config
from pangu_cv.distill.images import Seen
from pangu_cv.distill.importance import importance_on
from pangu_cv.distill.pupil import Pupil
from pangu_cv.distill.recipe import DistillRecipe, ExtractConfig, TimmConfig
from pangu_cv.distill.search import Candidate, Extractor, search, within
from pangu_cv.distill.settle import Settler
from pangu_cv.distill.shape import Shape, lattice, require_plain, whole
from pangu_cv.distill.stopwatch import Stopwatch
from pangu_cv.distill.student import read_depth, side_multiple, student_levels, with_network
from pangu_cv.distill.teaching import Lesson
from pangu_cv.errors import SettingsError
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.tasks import TaskModel


@dataclass(frozen=True)
class Chosen:
    """The student before its teaching proper, its use of the budget when it was chosen, and all that were looked at."""

    pupil: Pupil
    shape: Shape | None
    use: float
    candidates: tuple[Candidate, ...]


def choose(
    recipe: DistillRecipe, lesson: Lesson, seen: Seen, stopwatch: Stopwatch, folder: Path, *, key: str
) -> Chosen:
    """By the recipe; ``folder`` is the run's."""
    if isinstance(recipe.student, TimmConfig):
        return _another(recipe, recipe.student, lesson, stopwatch)
    path = folder / "chosen.ckpt"
    if path.is_file():
        stored = torch.load(path, map_location="cpu", weights_only=True)
        if stored["key"] == key:
            return _kept(stored, lesson)
    chosen, plain = _extracted(recipe, recipe.student, lesson, seen, stopwatch, folder, key=key)
    torch.save({"key": key, "state": chosen.pupil.state_dict(), "plain": plain}, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
    return chosen


def sub_models(recipe: DistillRecipe, teacher: TaskModel) -> tuple[Shape, list[Shape]]:
    """The teacher's own shape as far as it is read, and its sub-models."""
    if not isinstance(recipe.student, ExtractConfig):
        raise SettingsError("probes: a kit is of the teacher's sub-models; it needs student.kind=extract")
    require_plain(teacher.backbone)
    own = whole(teacher.backbone, image_px=teacher.config.preprocess.image_px, depth=read_depth(teacher))
    shapes = lattice(
        own,
        recipe.student.lattice,
        patch_px=int(teacher.backbone.network.patch_embed.patch_size[0]),
        multiple_px=side_multiple(teacher),
        least_depth=5 - min(student_levels(teacher)),
    )
    return own, shapes


def _extracted(
    recipe: DistillRecipe,
    student: ExtractConfig,
    lesson: Lesson,
    seen: Seen,
    stopwatch: Stopwatch,
    folder: Path,
    *,
    key: str,
) -> tuple[Chosen, str]:
    """A sub-model of the teacher, and as text what is kept of the choice."""
    teacher, slack = lesson.teacher, recipe.budget.slack
    own, shapes = sub_models(recipe, teacher)
    costs, budget = costs_and_budget(recipe.budget, teacher, own, shapes, folder, key=key, image_hw=seen.image_hw)
    settler = None
    if recipe.budget.is_measured_here:
        costs, settler = _settler(costs, budget, shapes, seen, stopwatch, slack=slack)
    extractor = Extractor(teacher, importance_on(teacher, lesson, own.depth), lesson, own.depth)
    found = search(extractor, shapes, costs, budget, student, slack=slack, settler=settler)
    use = budget.use(found.chosen.cost)
    plain = json.dumps([asdict(found.chosen.shape), use, [asdict(one) for one in found.candidates]])
    return Chosen(found.pupil, found.chosen.shape, use, found.candidates), plain


def _settler(
    costs: Costs, budget: Budget, shapes: list[Shape], seen: Seen, stopwatch: Stopwatch, *, slack: float
) -> tuple[Costs, Settler]:
    """Costs set right at one whole sub-model near the budget, and what corrects those that are to be taught."""
    normal = len(seen.normal) or len(seen.views.paths)

    def measured(shape: Shape) -> float:
        return costs.table.whole_ms * stopwatch.share(shape, normal_images=normal)

    near = sorted(within(shapes, costs, budget, slack=slack))
    probe = near[len(near) // 2]
    corrected = costs.corrected_by(probe, measured(probe))
    return corrected, Settler(measured, corrected, budget, shapes)


def _kept(stored: dict[str, Any], lesson: Lesson) -> Chosen:
    plain, use, candidates = json.loads(stored["plain"])
    shape, teacher = Shape(**plain), lesson.teacher
    config = sub_config(teacher.backbone.config, shape, levels=student_levels(teacher))
    pupil = lesson.begin(with_network(teacher, config, image_px=shape.image_px))
    pupil.load_state_dict(stored["state"])
    return Chosen(pupil, shape, use, tuple(_candidate(one) for one in candidates))


def _candidate(plain: dict[str, Any]) -> Candidate:
    return Candidate(**{**plain, "shape": Shape(**plain["shape"]), "cost": Cost(**plain["cost"])})


def _another(recipe: DistillRecipe, student: TimmConfig, lesson: Lesson, stopwatch: Stopwatch) -> Chosen:
    """Another network, at the largest input that fits the budget; every input is measured whole."""
    if recipe.budget.table is not None:
        raise SettingsError(
            "budget.table: it holds times of the teacher's own parts, which tell nothing of another network; leave it "
            "out to measure on this machine"
        )
    teacher = lesson.teacher
    levels = student.levels or teacher.backbone.config.levels
    config = BackboneConfig(name=student.name, weights=student.weights, levels=levels)
    own: int = teacher.config.preprocess.image_px
    multiple = max(side_multiple(teacher), 32)
    sides = [student.image_px] if student.image_px else sorted({own, *range(2 * multiple, own, multiple)}, reverse=True)
    uses = {}
    for side in sides:
        model = with_network(teacher, config, image_px=side)
        cost, of_teacher = stopwatch.time(model)
        uses[side] = Budget.of(recipe.budget, teacher=of_teacher).use(cost)
        if uses[side] <= 1:
            return Chosen(lesson.begin(model), None, uses[side], ())
    least = min(uses.values())
    raise SettingsError(
        f"budget: '{student.name}' uses {least:.2f} times of it at {sides[-1]} px; name a smaller network"
    )
