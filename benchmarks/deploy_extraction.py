"""A model brought down to a share of its time: our extraction beside Torch-Pruning and networks without a teacher.

The teacher is a ViT-Tiny whose last six blocks learnt all labels of a table's pool. Every student decides the test
images, which none of them saw and no choice was made on; its time is that of the whole graph in ONNX Runtime, from
pixels to decision, timed in turn with the teacher's.
"""

import copy
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.cells import code_digest
from benchmarks.few_shot_classification import BACKBONE
from benchmarks.isolate import NotRunError
from benchmarks.latency import spread
from pangu_cv import recipes
from pangu_cv.distill import DistillRecipe, distill
from pangu_cv.distill.images import readable_views
from pangu_cv.distill.memory import remember
from pangu_cv.distill.stopwatch import measure as cost_of
from pangu_cv.distill.student import with_network
from pangu_cv.distill.teaching import Lesson
from pangu_cv.evaluate import TorchDecider, evaluate_anomaly, evaluate_classify, test_samples
from pangu_cv.finetune import FinetuneRecipe, finetune
from pangu_cv.finetune.recipe import FinetuneRecipe as Recipe
from pangu_cv.tasks import TaskModel
from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.saved import load_model

TEACHER_CODE = ("pangu_cv/finetune", "pangu_cv/models", "pangu_cv/tasks", "recipes/finetune")
_TEACHING_S = 120.0
_TRIALS_S = 20.0  # what a chosen sub-model is taught in its trials
_TEST = 40
_SMALLER_PX = 128  # near what ours takes for a quarter of the time


def teacher_of(data: Path, table: str, *, is_quick: bool) -> Path:
    """The run of a teacher, made once."""
    folder = Path("runs") / "bench" / f"teacher-{table}-{code_digest(TEACHER_CODE)}{'-quick' * is_quick}"
    if (folder / "report.html").is_file():
        return folder
    is_anomaly = not (data / "splits" / f"{table}.csv").is_file()
    settings = [f"output={folder}", f"task.backbone.name={BACKBONE}"]
    if is_anomaly:
        settings += [f"data.path={data / table}", "few_shot.shots=" + ("20" if is_quick else "null")]
    else:
        settings += [f"data.path={data / 'splits' / f'{table}.csv'}", f"data.root={data}", "augment.variants=0"]
        settings += ["adapt={kind: partial, blocks: 6, interpolate: 0.5}", "few_shot.shots=null"]
        settings += [f"train.steps={2 if is_quick else 200}"]
    kind = "anomaly" if is_anomaly else "classify_adapt"
    finetune(FinetuneRecipe.load(recipes.find("finetune", kind), settings))
    return folder


def measure(*, data: str, is_quick: bool, table: str, ratio: float, student: str, seed: int) -> dict[str, Any]:
    """One student: its figure and the teacher's on the test images, times in turn, seconds it took to make."""
    run = teacher_of(Path(data), table, is_quick=is_quick)
    with tempfile.TemporaryDirectory() as scratch:
        begin = time.perf_counter()
        made, about = _MAKERS[student](Path(data), run, table, ratio, seed, Path(scratch), is_quick)
        seconds = time.perf_counter() - begin
    teacher = load_model(run / "model").model
    return {
        "table": table,
        "ratio": ratio,
        "student": student,
        "seed": seed,
        "teacher": _figure(Path(data), run, teacher, is_quick=is_quick),
        "figure": _figure(Path(data), run, made, is_quick=is_quick),
        "cost": _in_turn(made, teacher, run),
        "seconds": seconds,
        **about,
    }


def _recipe_of(run: Path) -> Recipe:
    return Recipe.load(run / "recipe.yaml")


def _figure(data: Path, run: Path, model: TaskModel, *, is_quick: bool) -> dict[str, Any]:
    """Balanced accuracy or image AUROC on the test images."""
    recipe = _recipe_of(run)
    samples = test_samples(recipe.data.read())
    samples = tuple(spread(samples, _TEST)) if is_quick else samples
    decider, spec = TorchDecider(model), recipe.data.decode_spec
    if isinstance(model, ClassifyModel):
        outcome: Any = evaluate_classify(decider, samples, classes=model.classes, decode_spec=spec).outcome
        return {"name": "balanced accuracy", "value": outcome.balanced_accuracy, "images": len(outcome.paths)}
    outcome = evaluate_anomaly(decider, samples, asked_rate=0.05, decode_spec=spec).outcome
    return {"name": "image AUROC", "value": outcome.image_auroc, "images": len(outcome.paths)}


def _in_turn(model: TaskModel, teacher: TaskModel, run: Path) -> dict[str, Any]:
    own, whole = cost_of(model, beside=teacher, threads=None, image_hw=_size_of(run))
    return {"student": asdict(own), "teacher": asdict(whole), "ratio": own.ms / whole.ms}


def _size_of(run: Path) -> tuple[int, int]:
    from pangu_runtime.decode import peek

    headers = [peek(s.path) for s in spread(test_samples(_recipe_of(run).data.read()), 20)]
    return int(np.median([h.height_px for h in headers])), int(np.median([h.width_px for h in headers]))


def _images(data: Path, run: Path) -> list[str]:
    recipe = _recipe_of(run)
    return [f"data.path={recipe.data.path}", *([f"data.root={data}"] if recipe.data.path.suffix == ".csv" else [])]


def _ours(
    data: Path, run: Path, table: str, ratio: float, seed: int, scratch: Path, is_quick: bool
) -> tuple[TaskModel, dict[str, Any]]:
    """The shipped recipe; in a quick run next to nothing of it."""
    quick = ["student.looked_at=2", "student.front=0", "student.tried=1", "train.steps=2", "data.most=60"]
    lines = [f"model={run}", *_images(data, run), f"budget.latency_ratio={ratio}", f"seed={seed}"]
    lines += [f"output={scratch / 'small'}", *(quick if is_quick else [])]
    result = distill(DistillRecipe.load(recipes.find("distill", "extract"), lines))
    assert result is not None
    kept = ("shape", "agreement", "held_out_loss", "candidates", "steps", "seconds", "images", "use", "timed")
    about = {f"run_{name}" if name == "seconds" else name: result.metrics[name] for name in kept}
    return load_model(result.model).model, about


def _torch_pruning(
    data: Path,
    run: Path,
    table: str,
    ratio: float,
    seed: int,
    scratch: Path,
    is_quick: bool,
    *,
    image_px: int | None = None,
) -> tuple[TaskModel, dict[str, Any]]:
    """Torch-Pruning's isomorphic groups by Taylor scores down to the same time, then the same teaching for as long.

    ``image_px``: the input is made smaller first, so that less has to be cut.
    """
    try:
        import torch_pruning  # noqa: F401
    except ImportError:
        raise NotRunError("the package torch-pruning is not installed") from None
    torch.manual_seed(seed)
    saved = load_model(run / "model")
    teacher = saved.model.requires_grad_(False)
    assert isinstance(teacher, ClassifyModel)
    quick = ["train.steps=2", "data.most=60"] if is_quick else []
    lines = [f"model={run}", *_images(data, run), f"budget.latency_ratio={ratio}", f"seed={seed}", *quick]
    recipe = DistillRecipe.load(recipes.find("distill", "extract"), lines)
    views = readable_views(recipe, teacher, saved.provenance.decode).views
    memory = remember(teacher, views, scratch / "teacher", key="")
    held_out = max(1, round(0.15 * len(views.paths)))
    lesson = Lesson(views, memory, teacher, held_out, recipe.loss, recipe.train, recipe.seed)
    whole = teacher if image_px is None else at_input(teacher, image_px)
    prepared = lesson.inputs(lesson.rows(range(min(32, lesson.learnt))), whole)
    low, high, network = 0.0, 0.9, None
    for _ in range(2 if is_quick else 6):  # halving the interval of shares that are cut
        share = (low + high) / 2
        network = pruned(whole.backbone.network, prepared, share)
        found = _in_turn(under_task(whole, network), teacher, run)["ratio"]
        low, high = (share, high) if found > ratio else (low, share)
        if abs(found - ratio) < 0.03 * ratio:
            break
    assert network is not None
    pupil = lesson.begin(under_task(whole, network))
    history = lesson.teach(pupil, seconds=_TEACHING_S + _TRIALS_S)
    about = {"share_cut": share, "steps": len(history.losses["total"])}
    return pupil.settle(), about | {"image_px": whole.config.preprocess.image_px}


def at_input(teacher: ClassifyModel, image_px: int) -> ClassifyModel:
    """The same network with its positions interpolated to a smaller input."""
    model = with_network(teacher, teacher.backbone, image_px=image_px)
    assert isinstance(model, ClassifyModel)
    model.backbone.network.set_input_size(img_size=image_px)
    return model.requires_grad_(False)


def pruned(network: Any, prepared_B3SS: Tensor, share: float) -> nn.Module:
    """A copy of a timm ViT with a share of its channels, heads and hidden units cut by Torch-Pruning.

    Its ranking over all blocks may leave one without a head; then heads are made narrower, as it does by itself.
    """
    by_heads = _pruned(network, prepared_B3SS, share, whole_heads=True)
    found = by_heads if by_heads is not None else _pruned(network, prepared_B3SS, share, whole_heads=False)
    assert found is not None, "heads that stay keep at least a channel"
    return found


def _pruned(network: Any, prepared_B3SS: Tensor, share: float, *, whole_heads: bool) -> nn.Module | None:
    """None where a block has lost all its heads."""
    import torch_pruning as tp

    own = copy.deepcopy(network).requires_grad_(True).train(False)
    heads = {block.attn.qkv: block.attn.num_heads for block in own.blocks}
    pruner = tp.pruner.BasePruner(
        own,
        prepared_B3SS[:1],
        importance=tp.importance.GroupTaylorImportance(),
        global_pruning=True,
        isomorphic=True,
        pruning_ratio=share,
        num_heads=heads,
        prune_num_heads=whole_heads,
        head_pruning_ratio=share if whole_heads else 0.0,
    )
    own.zero_grad()
    features = nn.functional.normalize(own(prepared_B3SS), dim=1)
    others = nn.functional.normalize(own(prepared_B3SS.flip(-1)), dim=1)
    nn.functional.cross_entropy(features @ others.T / 0.1, torch.arange(len(features))).backward()
    pruner.step()
    if not all(pruner.num_heads[block.attn.qkv] for block in own.blocks):
        return None
    for block in own.blocks:
        block.attn.num_heads = heads_of = pruner.num_heads[block.attn.qkv]
        block.attn.head_dim = block.attn.qkv.out_features // (3 * heads_of)
        block.attn.attn_dim = block.attn.num_heads * block.attn.head_dim
        block.attn.scale = block.attn.head_dim**-0.5
    own.embed_dim = own.num_features = own.patch_embed.proj.out_channels
    return own.requires_grad_(False).eval()


def under_task(teacher: ClassifyModel, network: nn.Module) -> ClassifyModel:
    """The teacher's task on a network that timm has no numbers for."""
    from pangu_cv.tasks.viewed import pooled

    model = copy.deepcopy(teacher)
    model.backbone.network = copy.deepcopy(network)
    side = model.config.preprocess.image_px
    model.groups = [part.shape[1] for part in pooled(model.backbone.probe(side))]
    model.head = model.config.head.build(groups=model.groups, classes=len(model.classes))
    return model


def _labels_alone(
    data: Path,
    run: Path,
    table: str,
    ratio: float,
    seed: int,
    scratch: Path,
    is_quick: bool,
    *,
    name: str,
    weights: str,
) -> tuple[TaskModel, dict[str, Any]]:
    """A network of timm's at the largest input of the same time, trained on the labels of the pool for as long."""
    teacher = load_model(run / "model").model
    recipe = _recipe_of(run)
    side = _side_within(teacher, run, name, ratio, is_quick=is_quick)
    settings = [f"data.path={recipe.data.path}", f"data.root={data}", f"task.backbone.name={name}"]
    settings += [f"task.backbone.weights={weights}", f"task.preprocess.image_px={side}", "adapt={kind: full}"]
    settings += ["few_shot.shots=null", "augment.variants=0", f"output={scratch / 'alone'}", "train.batch=32"]
    settings += [f"train.steps={2 if is_quick else 100000}", f"train.max_seconds={_TEACHING_S + _TRIALS_S}"]
    result = finetune(FinetuneRecipe.load(recipes.find("finetune", "classify_adapt"), settings))
    return load_model(result.model).model, {"network": name, "image_px": side}


def _side_within(teacher: TaskModel, run: Path, name: str, ratio: float, *, is_quick: bool) -> int:
    from pangu_cv.models.backbone import BackboneConfig

    config = BackboneConfig(name=name, weights="random", levels=teacher.config.backbone.levels)
    for side in range(224, 32, -32):
        model = with_network(teacher, config, image_px=side)
        if _in_turn(model, teacher, run)["ratio"] <= ratio or is_quick:
            return side
    raise NotRunError(f"{name} is slower than that at any input")


def _mobilenet(*given: Any) -> tuple[TaskModel, dict[str, Any]]:
    return _labels_alone(*given, name="mobilenetv4_conv_small", weights="random")


def _lite0(*given: Any) -> tuple[TaskModel, dict[str, Any]]:
    return _labels_alone(*given, name="tf_efficientnet_lite0.in1k", weights="auto")


def _torch_pruning_smaller(*given: Any) -> tuple[TaskModel, dict[str, Any]]:
    return _torch_pruning(*given, image_px=_SMALLER_PX)


_MAKERS = {
    "ours": _ours,
    "Torch-Pruning": _torch_pruning,
    "Torch-Pruning, smaller input": _torch_pruning_smaller,
    "MobileNetV4, labels alone": _mobilenet,
    "Lite0, labels alone": _lite0,
}
