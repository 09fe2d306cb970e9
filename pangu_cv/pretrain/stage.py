"""A run from recipe to verdict."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch.distributed.tensor import DTensor

from pangu_cv import __version__
from pangu_cv.data.pixel_cache import PixelCache
from pangu_cv.errors import SettingsError
from pangu_cv.features import cache_folder, digest
from pangu_cv.models import checkpoint
from pangu_cv.models.arithmetic import keep_freed_memory
from pangu_cv.models.backbone import Backbone
from pangu_cv.models.checkpoint import Checkpoint
from pangu_cv.pretrain.across import rank, world_size
from pangu_cv.pretrain.batches import Feed, Schedule
from pangu_cv.pretrain.checks import check_settings, check_sides, require_texts
from pangu_cv.pretrain.engine import join_batch_norms, make_fabric
from pangu_cv.pretrain.images import Images, gather
from pangu_cv.pretrain.left_out import LeftOut, learnt_from
from pangu_cv.pretrain.loop import Parts, train
from pangu_cv.pretrain.objectives import Objective
from pangu_cv.pretrain.objectives.joint import Joint
from pangu_cv.pretrain.optimiser import build_optimiser
from pangu_cv.pretrain.pictures import repair_rows
from pangu_cv.pretrain.probes import Probe, measure_all
from pangu_cv.pretrain.recipe import PretrainRecipe, PretrainResult
from pangu_cv.pretrain.report import write_report
from pangu_cv.pretrain.scores import Score
from pangu_cv.pretrain.state import State
from pangu_cv.pretrain.texts import TextTable
from pangu_cv.pretrain.titles import titles
from pangu_cv.pretrain.verdict import Verdict, verdict
from pangu_cv.runs import Run


@dataclass(frozen=True)
class _Setting:
    """What is built once for a run; probes are of the first process, unless all of them compute each layer."""

    recipe: PretrainRecipe
    fabric: Fabric
    run: Run
    images: Images
    left_out: LeftOut
    backbone: Backbone
    probes: tuple[Probe, ...]
    parts: Parts
    licences: tuple[str, ...]

    @property
    def key(self) -> str:
        """A state of another recipe, other images or another start is not resumed."""
        known = self.recipe.trained_by()
        images = self.images
        files = [(str(path), path.stat().st_size) for path in images.paths]
        told = [images.label_M.tolist(), images.text_M.tolist(), images.labels, images.texts]
        measured = [(probe.images, probe.folds) for probe in self.probes]
        return digest("pretrain-7", known, files, told, measured)


def pretrain(recipe: PretrainRecipe) -> PretrainResult:
    """Run the recipe; raises PanguError for what the user can mend."""
    setting = _set_up(recipe)
    with torch.random.fork_rng(devices=[]):
        state = train(
            recipe,
            setting.parts,
            key=setting.fabric.broadcast(setting.key),
            probe=lambda: _probe(setting),
            keep=lambda state: _keep(setting, state),
        )
    datasets = [target.path.resolve() for target in recipe.targets]
    found = verdict(state.rounds, images=len(setting.images.paths), datasets=datasets)
    metrics = _metrics(setting, state, found)
    run = setting.run
    if setting.fabric.is_global_zero:
        _keep_verdict(run.model, found)
        run.write_metrics(metrics)
        is_whole = not recipe.engine.shares_weights
        repaired = repair_rows(setting.parts) if is_whole else []  # as the last state does it: it learnt longest
        if is_whole:
            _load_best(setting)
        write_report(
            run, recipe, setting.parts, state, found, left_out=setting.left_out, repaired=repaired, is_whole=is_whole
        )
    setting.fabric.barrier()
    return PretrainResult(run.folder, run.model, run.report, metrics, is_first=setting.fabric.is_global_zero)


def _set_up(recipe: PretrainRecipe) -> _Setting:
    torch.manual_seed(recipe.seed)
    check_settings(recipe)
    images = gather(recipe.data, seed=recipe.seed, text_template=recipe.text.template if recipe.text.tower else None)
    require_texts(recipe, images)
    backbone = recipe.backbone.build()
    check_sides(recipe, backbone)
    keep_freed_memory()
    fabric = make_fabric(recipe.engine)
    fabric.launch()
    join_batch_norms(backbone.network, fabric)
    run = _start_run(recipe, fabric)
    cache = _pixel_cache(recipe)
    images, left_out = learnt_from(recipe, fabric, images, cache)
    probes: tuple[Probe, ...] = ()
    if fabric.is_global_zero or recipe.engine.shares_weights:  # all of them compute each layer
        named = zip(recipe.targets, titles([target.path for target in recipe.targets]), strict=True)
        probes = tuple(Probe(one, backbone, title=title, autocast=fabric.autocast) for one, title in named)
    objective = _objective(recipe, backbone, images)
    on_gpu = fabric.device.type == "cuda"
    if not on_gpu:
        objective.encoder.attend_for_cpu()
    network = fabric.setup_module(objective)
    optimiser = fabric.setup_optimizers(build_optimiser(objective, recipe.optim))
    schedule = Schedule(
        images,
        weights=[source.weight for source in recipe.data],
        batch=recipe.optim.batch,
        steps=recipe.optim.steps,
        seed=recipe.seed,
    )
    share = recipe.objective.neighbours.batch_share if recipe.objective.kind == "joint" else 0.0
    workers = recipe.engine.workers
    feed = Feed(images, cache, recipe.views, schedule, share, workers, rank(), world_size(), for_gpu=on_gpu)
    parts = Parts(fabric, objective, network, optimiser, feed, run.folder)
    licences = tuple(dict.fromkeys(source.licence for source in recipe.data))
    return _Setting(recipe, fabric, run, images, left_out, backbone, probes, parts, licences)


def _start_run(recipe: PretrainRecipe, fabric: Fabric) -> Run:
    if fabric.is_global_zero and recipe.output is not None:
        _require_own(recipe.output, recipe)
    run = Run.start(recipe.output, name="pretrain", recipe=recipe) if fabric.is_global_zero else None
    found: Run = fabric.broadcast(run)
    return found


def _require_own(folder: Path, recipe: PretrainRecipe) -> None:
    """Raises SettingsError where the folder holds a run of another recipe, before anything of it is written over."""
    before = folder / "recipe.yaml"
    if not before.is_file() or not (folder / "state.ckpt").exists():
        return
    own, kept = recipe.trained_by(), PretrainRecipe.load(before).trained_by()
    if changed := [name for name, value in own.items() if kept[name] != value]:
        raise SettingsError(
            f"output: '{folder}' holds a run with other settings of {', '.join(changed)}, and its model would be "
            "written over; name a new folder, or remove this one"
        )


def _pixel_cache(recipe: PretrainRecipe) -> PixelCache:
    """Reduced so far that the smallest crop is not enlarged."""
    short_px = round(recipe.views.image_px / recipe.views.scale[0] ** 0.5)
    return PixelCache(
        cache_folder().parent / "pixels", short_px=short_px, spec=recipe.data[0].decode_spec, max_gb=recipe.cache_gb
    )


def _objective(recipe: PretrainRecipe, backbone: Backbone, images: Images) -> Objective:
    texts = TextTable.empty()
    if recipe.text.tower and images.texts:
        from pangu_cv.models.text_tower import embed_texts  # sentence-transformers takes seconds to import

        texts = TextTable(embed_texts(recipe.text.tower, images.texts), torch.from_numpy(images.text_label_U))
    side, checkpointing = recipe.views.image_px, recipe.engine.checkpointing
    if recipe.objective.kind == "joint":
        objective: Objective = recipe.objective.build(backbone, texts, side_px=side, checkpointing=checkpointing)
    else:
        objective = recipe.objective.build(backbone, texts, side_px=side, checkpointing=checkpointing)
    if recipe.engine.compile:
        for block in getattr(objective.encoder.network, "blocks", ()):
            block.compile()
    return objective


def _probe(setting: _Setting) -> list[Score]:
    """On the first process; all learn the figures, since they decide when to stop."""
    scores: list[Score] = []
    if setting.probes:
        scores = setting.parts.objective.as_a_whole(lambda: measure_all(setting.probes, setting.backbone))
    found: list[Score] = setting.fabric.broadcast(scores)
    return found


def _keep(setting: _Setting, state: State) -> None:
    """The best state is the run's model; what the probes say nothing of is kept in ``last`` as it is now."""
    if state.best == len(state.rounds) - 1:
        _write(setting, state, setting.run.model)
    if setting.recipe.learns_beside_probes and setting.recipe.targets and state.step:
        _write(setting, state, setting.run.folder / "last")


def _write(setting: _Setting, state: State, folder: Path) -> None:
    objective, source = setting.parts.objective, setting.backbone.source
    components = {"backbone": setting.backbone.network.state_dict()}
    if isinstance(objective, Joint):
        if objective.decoder is not None:
            components["decoder"] = objective.decoder.state_dict()
        if objective.to_text is not None:
            components["to_text"] = {"weight": objective.to_text.weight, "log_scale": objective.log_scale}
    plain = {name: _plain(tensors) for name, tensors in components.items()}  # by all processes: shares are put together
    if not setting.fabric.is_global_zero:
        return
    recipe = setting.recipe
    manifest = {
        "kind": "backbone",
        "backbone": recipe.backbone.name,
        "arguments": dict(recipe.backbone.arguments),
        "levels": list(recipe.backbone.levels),
        "objective": recipe.objective.model_dump(mode="json"),
        "views": recipe.views.model_dump(mode="json"),
        "text": recipe.text.model_dump(mode="json"),
        "decode": recipe.data[0].decode_spec.to_json(),  # the same of all
        "step": state.step,
        "images": len(setting.images.paths),
        "parent": {
            "name": source.name if source else recipe.backbone.name,
            "sha256": source.sha256 if source else None,
            "licence": source.licence if source else "Apache-2.0 (random weights)",
        },
        "recipe_hash": digest(recipe.model_dump(mode="json")),
        "data_licences": list(setting.licences),
        "pangu_cv": __version__,
    }
    checkpoint.save(folder, Checkpoint(plain, manifest))


def _plain(tensors: dict[str, Any]) -> dict[str, Any]:
    """On the CPU; what is shared out is gathered one tensor at a time."""
    whole = ((name, t.full_tensor() if isinstance(t, DTensor) else t) for name, t in tensors.items())
    return {name: tensor.detach().float().cpu().clone() for name, tensor in whole}


def _load_best(setting: _Setting) -> None:
    """Back to the weights that were kept, so that the report's pictures are theirs."""
    setting.backbone.network.load_state_dict(checkpoint.load(setting.run.model).components["backbone"])


def _keep_verdict(folder: Path, found: Verdict) -> None:
    """The verdict stands in the checkpoint too, where ``finetune`` reads it."""
    path = folder / "model.json"
    manifest = json.loads(path.read_text(encoding="utf-8")) | {"verdict": found.as_json()}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    temporary.replace(path)


def _metrics(setting: _Setting, state: State, found: Verdict) -> dict[str, Any]:
    last = state.history[-1] if state.history else {}
    return {
        "stage": "pretrain",
        "verdict": found.as_json(),
        "steps": state.step,
        "best_round": state.best,
        "minutes": state.minutes,
        "rounds": [{s.target: {"mean": s.mean, "knn": s.knn} for s in scores} for scores in state.rounds],
        "images": len(setting.images.paths),
        "labelled": int((setting.images.label_M >= 0).sum()),
        "texts": len(setting.images.texts),
        "last_losses": {name: value for name, value in last.items() if name not in ("step", "rate")},
        "skipped": sorted(str(path) for path in setting.left_out.unreadable),
        "copies_left_out": len(setting.left_out.copies),
        "held_out": len(setting.left_out.held_out),
    }
