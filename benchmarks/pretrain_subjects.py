"""What pretraining is measured on: the unlabelled pools of the six tables, and the classifier on their test images."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import subjects
from benchmarks.cells import code_digest
from benchmarks.machine import ROOT
from pangu_cv import recipes
from pangu_cv.features import FeatureStore, cache_folder, extract
from pangu_cv.finetune.classify import fit_draw
from pangu_cv.finetune.recipe import FinetuneRecipe
from pangu_cv.pretrain import PretrainRecipe, PretrainResult, pretrain
from pangu_cv.tasks.classify import ClassifyConfig

BACKBONE = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
PRETRAIN_CODE = (
    "pangu_cv/pretrain",
    "pangu_cv/data/few_shot.py",
    "pangu_cv/data/pixel_cache.py",
    "pangu_cv/features.py",
    "pangu_cv/finetune/classify.py",
    "pangu_cv/metrics/classification.py",
    "pangu_cv/models/ridge_head.py",
    "pangu_cv/models/ridge_map.py",
    *(f"pangu_cv/models/{name}.py" for name in ("backbone", "memory_bank", "preprocess", "text_tower")),
    *(f"pangu_cv/tasks/{name}.py" for name in ("anomaly", "classify", "image_text", "viewed")),
    "export/pangu_runtime/decode.py",
    "recipes/pretrain",
    "recipes/finetune/classify.yaml",
    "benchmarks/pretrain_subjects.py",
)
RUNS = ROOT / "runs" / "bench" / "pretrain" / code_digest(PRETRAIN_CODE)
_QUICK = ("optim.steps=2", "round_steps=2", "optim.batch=8", "views.image_px=64")


def pool_recipe(
    data: Path,
    preset: str,
    *,
    seed: int,
    name: str,
    is_quick: bool,
    labels: float = 0.0,
    images: int = 360,
    changes: Sequence[str] = (),
) -> PretrainRecipe:
    """A shipped recipe on the pools, probed within the pools; its run folder can be resumed.

    ``labels`` is the share of labels used, ``images`` how many of a table are probed on,
    ``changes`` are further settings.
    """
    tables = [{"path": str(data / "splits" / f"{table}.csv"), "root": str(data)} for table in subjects.TABLES]
    probe = {"images": 40, "draws": 2, "shots": 2} if is_quick else {"images": images, "draws": 20}
    settings = [
        f"data={json.dumps([table | {'labels': labels} for table in tables])}",
        f"targets={json.dumps([table | probe for table in tables])}",
        f"backbone.name={BACKBONE}",
        f"seed={seed}",
        "engine.precision=bf16-mixed",
        f"output={json.dumps(str(RUNS / ('quick' if is_quick else 'whole') / name))}",
        *changes,
        *(_QUICK if is_quick else ()),
    ]
    return PretrainRecipe.load(recipes.find("pretrain", preset), settings)


def run(recipe: PretrainRecipe) -> PretrainResult:
    """The run, or its end where it was killed before."""
    with torch.random.fork_rng(devices=[]):
        return pretrain(recipe)


def story(result: PretrainResult) -> dict[str, Any]:
    """What a cell keeps of a run: probes by round and minute, draw by draw, and the verdict."""
    names = ("verdict", "steps", "best_round", "rounds", "minutes", "images", "last_losses")
    return {name: result.metrics[name] for name in names}


def few_shot(
    data: Path, weights: Path | None, *, shots: int, draws: int, is_quick: bool, backbone: str = BACKBONE
) -> dict[str, list[float]]:
    """Balanced accuracy per draw and table on the test images: the frozen head of ``classify`` at 224 px.

    ``weights`` is a run's model; None are the weights a run starts from. Draws are the same for any weights.
    """
    found = {}
    for table in subjects.TABLES:
        recipe, task = classifier(data, table, weights, backbone=backbone)
        seeds = range(2 if is_quick else draws)
        _, chosen = subjects.classify_draws(recipe, shots=shots, seeds=seeds, is_quick=is_quick)
        model = task.build(tuple(sorted({str(s.label) for s in chosen[0].support})))
        store = FeatureStore(cache_folder(), model.fingerprint)
        spec = recipe.data.decode_spec
        support = sorted({s.path for d in chosen for s in d.support})
        tested = sorted({s.path for d in chosen for s in d.test})
        seen = extract(support, model, views=task.fit_views, store=store, decode_spec=spec)
        test = extract(tested, model, views=task.decision_views, store=store, decode_spec=spec)
        found[table] = [fit_draw(model, draw, seen, test).outcome.balanced_accuracy for draw in chosen]
    return found


def classifier(
    data: Path, table: str, weights: Path | None, *, backbone: str = BACKBONE
) -> tuple[FinetuneRecipe, ClassifyConfig]:
    """The classify recipe of the repository on a run's weights; None are the weights a run starts from."""
    recipe = subjects.classify_recipe(data, table, backbone=backbone)
    task = subjects.classify_task(recipe)
    if weights is None:
        return recipe, task
    return recipe, task.model_copy(update={"backbone": task.backbone.model_copy(update={"weights": str(weights)})})
