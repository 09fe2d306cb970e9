"""From a model to a smaller one: what things cost, what matters, which sub-model, teaching, what came out.

Every step leaves a file in the run folder, so that a killed run goes on at the last of them.
"""

import shutil
from pathlib import Path

from pangu_cv.alone import new_model
from pangu_cv.distill.beforehand import require_teachable
from pangu_cv.distill.choose import choose, plan, sub_models
from pangu_cv.distill.figures import Outcome, figures
from pangu_cv.distill.finish import agreement, calibrator, parent
from pangu_cv.distill.images import Seen, readable_views
from pangu_cv.distill.latency import Origin, write_kit
from pangu_cv.distill.memory import remember
from pangu_cv.distill.normals import with_normals
from pangu_cv.distill.recipe import DistillRecipe, DistillResult, TimmConfig
from pangu_cv.distill.report import write_report
from pangu_cv.distill.stopwatch import Stopwatch
from pangu_cv.distill.taught import taught
from pangu_cv.distill.teaching import Lesson
from pangu_cv.distill.whole_graphs import write_whole_kit
from pangu_cv.features import content_digest, digest
from pangu_cv.models.checkpoint_folder import folder_of
from pangu_cv.runs import Run
from pangu_cv.tasks.saved import Provenance, SavedModel, data_hash, load_model, save_model

_HELD_OUT = 0.15
_MOST_HELD_OUT = 200
_STEPS = ("kit", "whole", "teacher", "latency.json", "input.ckpt", "chosen.ckpt", "training.ckpt", "taught.ckpt")


def distill(recipe: DistillRecipe) -> DistillResult | None:
    """Run the recipe; raises PanguError for what the user can mend. None where only a kit was written."""
    if recipe.probes is not None:
        _write_kit(recipe, recipe.probes)
        return None
    if recipe.output is None:
        return _distill(recipe)
    with new_model(recipe.output, setting="output"):
        return _distill(recipe)


def _write_kit(recipe: DistillRecipe, kit: Path) -> None:
    saved = load_model(folder_of(recipe.model))
    require_teachable(recipe, saved)
    seen = readable_views(recipe, saved.model, saved.provenance.decode)
    origin = _origin(folder_of(recipe.model), seen)
    if isinstance(recipe.student, TimmConfig):
        write_whole_kit(saved.model, recipe.student, kit, origin=origin, normal_images=seen.remembered)
    else:
        _, shapes = sub_models(recipe.student, saved.model)
        write_kit(saved.model, shapes, kit, origin=origin)


def _origin(model: Path, seen: Seen) -> Origin:
    return Origin(_contents(model), seen.image_hw, seen.tiles)


def _contents(model: Path) -> str:
    """Digest of a checkpoint's files: a head that was fitted anew is another teacher."""
    return digest([content_digest(file) for file in sorted(model.iterdir()) if file.is_file()])


def _distill(recipe: DistillRecipe) -> DistillResult:
    folder = folder_of(recipe.model)
    saved = load_model(folder)
    teacher = saved.model.requires_grad_(False)
    require_teachable(recipe, saved)
    seen = readable_views(recipe, teacher, saved.provenance.decode)
    views = seen.views
    held_out = min(max(1, round(_HELD_OUT * len(views.paths))), _MOST_HELD_OUT)
    seen = with_normals(teacher, seen, learnt=len(views.paths) - held_out)
    run = Run.start(recipe.output, name="distill", recipe=recipe)
    told, origin = recipe.model_dump(mode="json", exclude={"output"}), _origin(folder, seen)
    table = recipe.budget.table and content_digest(recipe.budget.table)
    key = digest(told, [(str(path), path.stat().st_size) for path in views.paths], origin.model, table)
    stopwatch = Stopwatch(
        teacher, run.folder / "whole" / origin.model, recipe.budget.threads, seen.image_hw, seen.tiles
    )
    planned = plan(recipe, stopwatch, seen, run.folder, key=key, origin=origin)
    memory = remember(teacher, views, run.folder / "teacher", key=key)
    lesson = Lesson(views, memory, teacher, held_out, recipe.loss, recipe.train, recipe.seed)
    chosen = choose(recipe, planned, lesson, seen, stopwatch, run.folder, key=key)
    before = lesson.judge(chosen.pupil)
    lesson.forget_inputs(but=chosen.pupil.model.config.preprocess.image_px)
    history = taught(lesson, chosen.pupil, run.folder, seconds=recipe.train.max_seconds, key=key)
    after = lesson.judge(chosen.pupil)
    provenance = Provenance(
        saved.provenance.decode,
        digest(recipe.model_dump(mode="json")),
        data_hash(list(views.paths), recipe.data.path),
        saved.provenance.data_licence,
    )
    student = SavedModel(chosen.pupil.settle(), provenance, parent(saved, chosen.pupil.model))
    calibrated_on = calibrator(student, saved, seen)
    blind = calibrated_on(lesson.learnt)
    found = agreement(blind.model, teacher, views.paths[lesson.learnt :], spec=views.spec)
    student = calibrated_on(len(views.paths))
    cost, of_teacher = stopwatch.time(student.model)
    outcome = Outcome(chosen, cost, of_teacher, found, before, after, history, len(views.paths), seen.tiles)
    metrics = figures(recipe, teacher, outcome)
    run.write_metrics(metrics)
    write_report(run, recipe, metrics, lesson, chosen.pupil, history, chosen.candidates, seen.skipped)
    save_model(student, run.model)  # the last: a folder that holds a model is a finished run
    for name in _STEPS:
        path = run.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return DistillResult(run.folder, run.model, run.report, metrics)
