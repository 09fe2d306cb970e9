"""From a model to a smaller one: what matters, what things cost, which sub-model, teaching, what came out.

Every step leaves a file in the run folder, so that a killed run goes on at the last of them.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pangu_cv.distill.budget import Budget, Cost
from pangu_cv.distill.costs import Costs, measure, measured_table, millions, table_of
from pangu_cv.distill.decisions import apart, say
from pangu_cv.distill.extraction import sub_config
from pangu_cv.distill.finish import Agreement, agreement, calibrated
from pangu_cv.distill.importance import Importance, importance
from pangu_cv.distill.latency import ByArithmetic, write_kit
from pangu_cv.distill.memory import remember
from pangu_cv.distill.pupil import Pupil
from pangu_cv.distill.recipe import DistillRecipe, DistillResult, ExtractConfig, TimmConfig
from pangu_cv.distill.report import write_report
from pangu_cv.distill.search import Candidate, Extractor, search, within
from pangu_cv.distill.shape import Shape, lattice, params_in, require_plain, whole
from pangu_cv.distill.student import read_depth, side_multiple, student_levels, with_network
from pangu_cv.distill.teaching import Lesson
from pangu_cv.distill.views import Views
from pangu_cv.errors import DataError, ImageError, SettingsError
from pangu_cv.features import Skipped, digest, read_ahead
from pangu_cv.models.backbone import BackboneConfig, BackboneFeatures
from pangu_cv.models.training import History, Resume
from pangu_cv.progress import bar
from pangu_cv.runs import Run
from pangu_cv.staging import write_json
from pangu_cv.tasks import TaskModel, tiling_of
from pangu_cv.tasks.saved import Provenance, SavedModel, data_hash, load_model, parent_of, save_model
from pangu_runtime.decode import DecodeSpec, peek

_HELD_OUT = 0.15
_TOLERANCE = 0.1  # of a measured time: repeated measurements of one graph differ by as much on a busy machine
_MOST_HELD_OUT = 200
_IMPORTANCE_BATCHES = 3
_IMPORTANCE_BATCH = 12
_STEPS = ("kit", "teacher", "latency.json", "chosen.ckpt", "training.ckpt")


@dataclass(frozen=True)
class Chosen:
    """The student before its teaching proper, and what it was chosen among."""

    pupil: Pupil
    shape: Shape | None
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Seen:
    """The readable images in a random order, the unreadable, the median size, and those known to be normal."""

    views: Views
    skipped: tuple[Skipped, ...]
    image_hw: tuple[int, int]
    normal: frozenset[Path]


def distill(recipe: DistillRecipe) -> DistillResult | None:
    """Run the recipe; raises PanguError for what the user can mend. None where only a kit was written."""
    saved = load_model(recipe.model / "model" if (recipe.model / "model" / "model.json").is_file() else recipe.model)
    teacher = saved.model.requires_grad_(False)
    seen = readable_views(recipe, teacher, saved.provenance.decode)
    views, image_hw = seen.views, seen.image_hw
    if recipe.probes is not None:
        _, shapes = _shapes(recipe, teacher)
        write_kit(teacher, shapes, recipe.probes, image_hw=image_hw)
        return None
    run = Run.start(recipe.output, name="distill", recipe=recipe)
    told = recipe.model_dump(mode="json", exclude={"output"})
    key = digest(told, [str(path) for path in views.paths], teacher.backbone.fingerprint)
    held_out = min(max(1, round(_HELD_OUT * len(views.paths))), _MOST_HELD_OUT)
    memory = remember(teacher, views, run.folder / "teacher", key=key)
    lesson = Lesson(views, memory, teacher, held_out, recipe.loss, recipe.train, recipe.seed)
    chosen = _chosen(recipe, teacher, lesson, run, key=key, image_hw=image_hw)
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
    student = SavedModel(chosen.pupil.settle(), provenance, _parent(saved, chosen.pupil.model))
    student = calibrated(student, saved, views, normal=seen.normal)
    save_model(student, run.model)
    own, of_teacher = measure(student.model, beside=teacher, threads=recipe.budget.threads, image_hw=image_hw)
    held = views.paths[lesson.learnt :]
    found = agreement(student.model, teacher, held, spec=views.spec)
    metrics = _metrics(teacher, chosen, own, of_teacher, found, before, after, history, len(views.paths))
    use = _use(recipe, own, of_teacher)
    metrics |= {"use": use, "within": use <= 1 + _TOLERANCE}
    run.write_metrics(metrics)
    write_report(run, recipe, metrics, lesson, chosen.pupil, history, chosen.candidates, seen.skipped)
    for name in _STEPS:
        path = run.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return DistillResult(run.folder, run.model, run.report, metrics)


def readable_views(recipe: DistillRecipe, teacher: TaskModel, spec: DecodeSpec) -> Seen:
    """Look at the headers of all images; raises DataError where too few can be read."""
    samples = recipe.data.read()
    order = np.random.default_rng(recipe.seed).permutation(len(samples))
    paths, sizes, lost = [], [], []
    headers = read_ahead([samples[at].path for at in order], lambda path: peek(path, spec=spec))
    with bar("reading headers") as progress:
        for done, (at, header) in enumerate(zip(order, headers, strict=True), start=1):
            if isinstance(header, ImageError):
                lost.append(Skipped(samples[at].path, header.reason, str(header)))
            else:
                paths.append(samples[at].path)
                sizes.append((header.height_px, header.width_px))
            progress(done, len(order))
    if len(paths) < 8:
        raise DataError(f"{recipe.data.path}: {len(paths)} images can be read; distilling needs at least 8, better 500")
    tiling = tiling_of(teacher)
    side = None if tiling is None else tiling.px
    height, width = (int(v) for v in np.median(np.array(sizes), 0))
    image_hw = (min(height, side or height), min(width, side or width))
    normal = frozenset(s.path for s in samples if s.label == "good")
    views = Views(tuple(paths), spec, recipe.augment, recipe.variants, side)
    return Seen(views, tuple(lost), image_hw, normal)


def _shapes(recipe: DistillRecipe, teacher: TaskModel) -> tuple[Shape, list[Shape]]:
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


def _chosen(
    recipe: DistillRecipe, teacher: TaskModel, lesson: Lesson, run: Run, *, key: str, image_hw: tuple[int, int]
) -> Chosen:
    if isinstance(recipe.student, TimmConfig):
        return _timm(recipe, recipe.student, teacher, lesson, image_hw=image_hw)
    path = run.folder / "chosen.ckpt"
    if path.is_file():
        stored = torch.load(path, map_location="cpu", weights_only=True)
        if stored["key"] == key:
            return _resumed(stored, teacher, lesson)
    own, shapes = _shapes(recipe, teacher)
    costs, budget = _costs(recipe, teacher, own, shapes, run, key=key, image_hw=image_hw)
    extractor = Extractor(teacher, _importance(teacher, lesson, own.depth), lesson, own.depth)
    slack = recipe.budget.slack
    middle = sorted(within(shapes, costs, budget, slack=slack))
    probe = middle[len(middle) // 2]
    if recipe.budget.asks_time and recipe.budget.table is None:  # the sum of parts against a whole one, near the budget
        model = extractor.model(probe)
        mine, whole_cost = measure(model, beside=teacher, threads=recipe.budget.threads, image_hw=image_hw)
        costs = costs.corrected_by(probe, costs.table.whole_ms * mine.ms / whole_cost.ms)
    found = search(extractor, shapes, costs, budget, recipe.student, slack=slack)
    candidates = [asdict(one) for one in found.candidates]
    content = {"key": key, "state": found.pupil.state_dict(), "plain": json.dumps([asdict(found.chosen), candidates])}
    torch.save(content, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
    return Chosen(found.pupil, found.chosen.shape, found.candidates)


def _resumed(stored: dict[str, Any], teacher: TaskModel, lesson: Lesson) -> Chosen:
    chosen, others = json.loads(stored["plain"])
    candidates = tuple(_candidate(plain) for plain in others)
    shape = _candidate(chosen).shape
    config = sub_config(teacher.backbone.config, shape, levels=student_levels(teacher))
    pupil = lesson.begin(with_network(teacher, config, image_px=shape.image_px))
    pupil.load_state_dict(stored["state"])
    return Chosen(pupil, shape, candidates)


def _candidate(plain: dict[str, Any]) -> Candidate:
    return Candidate(Shape(**plain["shape"]), Cost(**plain["cost"]), plain["untaught"], plain["taught"])


def _costs(
    recipe: DistillRecipe,
    teacher: TaskModel,
    own: Shape,
    shapes: list[Shape],
    run: Run,
    *,
    key: str,
    image_hw: tuple[int, int],
) -> tuple[Costs, Budget]:
    network = teacher.backbone.network
    rest = millions(teacher) - float(sum(p.numel() for p in network.parameters())) / 1e6

    def params_of(shape: Shape) -> float:
        return float(rest + params_in(shape, network) / 1e6)

    kept = run.folder / "latency.json"
    if not recipe.budget.asks_time:
        costs = Costs(ByArithmetic.of(teacher, own), params_of)
        return costs, Budget.of(recipe.budget, teacher=Cost(1.0, millions(teacher), costs(own).size_mb))
    if recipe.budget.table is not None:
        measured = _read(recipe.budget.table)
    elif kept.is_file() and (known := _read(kept)).get("key") == key:
        measured = known
    else:
        measured = measured_table(teacher, shapes, recipe.budget, run.folder / "kit", image_hw=image_hw)
        write_json(kept, measured | {"key": key})
    table = table_of(measured, teacher, shapes, own)
    costs = Costs(table, params_of).corrected_by(own, table.whole_ms)
    of_teacher = Cost(table.whole_ms, millions(teacher), costs(own).size_mb)
    return costs, Budget.of(recipe.budget, teacher=of_teacher)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"budget.table: {path} cannot be read as JSON ({error})") from None
    return found if isinstance(found, dict) else {}


def _importance(teacher: TaskModel, lesson: Lesson, depth: int) -> Importance:
    """From pairs of an image and itself in another light, which a dense answer can follow."""
    pairs = []
    for start in range(0, min(_IMPORTANCE_BATCHES * _IMPORTANCE_BATCH, lesson.learnt), _IMPORTANCE_BATCH):
        places = range(start, min(start + _IMPORTANCE_BATCH, lesson.learnt))
        if len(places) > 1:
            one, other = (
                torch.cat(
                    [
                        teacher.preprocess(torch.from_numpy(lesson.views.shaken(place, seed=seed))[None])
                        for place in places
                    ]
                )
                for seed in (1, 2)
            )
            pairs.append((one, other))

    def answers_apart(a: BackboneFeatures, b: BackboneFeatures, one: Tensor, other: Tensor) -> Tensor:
        said, wanted = say(teacher, a, one), say(teacher, b, other)
        return apart(teacher.config.kind, said, tuple(part.detach() for part in wanted))

    return importance(teacher.backbone, pairs, answers_apart, depth=depth)


def _timm(
    recipe: DistillRecipe, student: TimmConfig, teacher: TaskModel, lesson: Lesson, *, image_hw: tuple[int, int]
) -> Chosen:
    """Another network, at the largest input that fits the budget."""
    levels = student.levels or teacher.backbone.config.levels
    config = BackboneConfig(name=student.name, weights=student.weights, levels=levels)
    own: int = teacher.config.preprocess.image_px
    multiple = max(side_multiple(teacher), 32)
    sides = [student.image_px] if student.image_px else sorted({own, *range(2 * multiple, own, multiple)}, reverse=True)
    uses = {}
    for side in sides:
        model = with_network(teacher, config, image_px=side)
        mine, whole_cost = measure(model, beside=teacher, threads=recipe.budget.threads, image_hw=image_hw)
        uses[side] = Budget.of(recipe.budget, teacher=whole_cost).use(mine)
        if uses[side] <= 1:
            return Chosen(lesson.begin(model), None, ())
    least = min(uses.values())
    raise SettingsError(
        f"budget: '{student.name}' uses {least:.2f} times of it at {sides[-1]} px; name a smaller network"
    )


def _parent(saved: SavedModel, student: TaskModel) -> dict[str, Any]:
    """Whose weights the student carries: the teacher's own, or its network's with the teacher's beside them."""
    if student.backbone.config.name == saved.model.backbone.config.name:
        return dict(saved.parent)
    own = parent_of(student)
    return own | {"licence": f"{own['licence']}; taught by a model of {saved.parent['licence']}"}


def _use(recipe: DistillRecipe, own: Cost, of_teacher: Cost) -> float:
    """Of the budget, as measured here; a device's own times are known of the parts alone."""
    if recipe.budget.table is not None and recipe.budget.latency_ms is not None:
        return 1.0
    return Budget.of(recipe.budget, teacher=of_teacher).use(own)


def _metrics(
    teacher: TaskModel,
    chosen: Chosen,
    own: Cost,
    of_teacher: Cost,
    found: Agreement,
    before: dict[str, float],
    after: dict[str, float],
    history: History,
    images: int,
) -> dict[str, Any]:
    student = chosen.pupil.model
    return {
        "task": teacher.config.kind,
        "teacher": asdict(of_teacher),
        "student": asdict(own),
        "ratio": own.ms / of_teacher.ms,
        "network": {
            "name": student.backbone.config.name,
            "arguments": student.backbone.config.arguments,
            "image_px": student.config.preprocess.image_px,
        },
        "shape": str(chosen.shape) if chosen.shape else None,
        "agreement": asdict(found),
        "held_out_loss": {"before": before, "after": after},
        "seconds": history.seconds,
        "steps": len(history.losses.get("total", [])),
        "images": images,
        "candidates": [asdict(one) for one in chosen.candidates],
    }
