"""From a model to a smaller one: what matters, what things cost, which sub-model, teaching, what came out.

Every step leaves a file in the run folder, so that a killed run goes on at the last of them.
"""

import shutil
from pathlib import Path

from pangu_cv.distill.choose import choose, sub_models
from pangu_cv.distill.figures import Outcome, figures
from pangu_cv.distill.finish import agreement, calibrated, parent
from pangu_cv.distill.images import readable_views
from pangu_cv.distill.latency import write_kit
from pangu_cv.distill.memory import remember
from pangu_cv.distill.recipe import DistillRecipe, DistillResult
from pangu_cv.distill.report import write_report
from pangu_cv.distill.stopwatch import Stopwatch
from pangu_cv.distill.teaching import Lesson
from pangu_cv.features import content_digest, digest
from pangu_cv.models.checkpoint_folder import folder_of
from pangu_cv.models.training import Resume
from pangu_cv.runs import Run
from pangu_cv.tasks.saved import Provenance, SavedModel, data_hash, load_model, save_model

_HELD_OUT = 0.15
_MOST_HELD_OUT = 200
_STEPS = ("kit", "whole", "teacher", "latency.json", "chosen.ckpt", "training.ckpt")


def _contents(model: Path) -> list[str]:
    """Digests of a checkpoint's files: a head that was fitted anew is another teacher."""
    return [content_digest(file) for file in sorted(model.iterdir()) if file.is_file()]


def distill(recipe: DistillRecipe) -> DistillResult | None:
    """Run the recipe; raises PanguError for what the user can mend. None where only a kit was written."""
    folder = folder_of(recipe.model)
    saved = load_model(folder)
    teacher = saved.model.requires_grad_(False)
    seen = readable_views(recipe, teacher, saved.provenance.decode)
    views = seen.views
    if recipe.probes is not None:
        _, shapes = sub_models(recipe, teacher)
        write_kit(teacher, shapes, recipe.probes, image_hw=seen.image_hw)
        return None
    run = Run.start(recipe.output, name="distill", recipe=recipe)
    told = recipe.model_dump(mode="json", exclude={"output"})
    key = digest(told, [(str(path), path.stat().st_size) for path in views.paths], _contents(folder))
    held_out = min(max(1, round(_HELD_OUT * len(views.paths))), _MOST_HELD_OUT)
    memory = remember(teacher, views, run.folder / "teacher", key=key)
    lesson = Lesson(views, memory, teacher, held_out, recipe.loss, recipe.train, recipe.seed)
    stopwatch = Stopwatch(teacher, run.folder / "whole", recipe.budget.threads, seen.image_hw)
    chosen = choose(recipe, lesson, seen, stopwatch, run.folder, key=key)
    before = lesson.judge(chosen.pupil)
    resume = Resume(run.folder / "training.ckpt", key)
    lesson.forget_inputs(but=chosen.pupil.model.config.preprocess.image_px)
    history = lesson.teach(chosen.pupil, seconds=recipe.train.max_seconds, resume=resume)
    after = lesson.judge(chosen.pupil)
    provenance = Provenance(
        saved.provenance.decode,
        digest(recipe.model_dump(mode="json")),
        data_hash(list(views.paths), recipe.data.path),
        saved.provenance.data_licence,
    )
    student = SavedModel(chosen.pupil.settle(), provenance, parent(saved, chosen.pupil.model))
    student = calibrated(student, saved, views, normal=seen.normal)
    save_model(student, run.model)
    cost, of_teacher = stopwatch.time(student.model)
    found = agreement(student.model, teacher, views.paths[lesson.learnt :], spec=views.spec)
    outcome = Outcome(chosen, cost, of_teacher, found, before, after, history, len(views.paths))
    metrics = figures(recipe, teacher, outcome)
    run.write_metrics(metrics)
    write_report(run, recipe, metrics, lesson, chosen.pupil, history, chosen.candidates, seen.skipped)
    for name in _STEPS:
        path = run.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return DistillResult(run.folder, run.model, run.report, metrics)
