"""Few labels for everything: 1 % and 10 % of the pools' labels, with and without pretraining, on the test images.

The same labelled images go to the head in every arm; with pretraining they and all unlabelled ones go to the backbone
too.
"""

from pathlib import Path
from typing import Any

from benchmarks import subjects
from benchmarks.pretrain_subjects import classifier, pool_recipe, run, story
from pangu_cv.features import FeatureStore, cache_folder, extract
from pangu_cv.finetune.classify import Draw, fit_draw
from pangu_cv.pretrain import PretrainRecipe
from pangu_cv.pretrain.images import gather
from pangu_cv.pretrain.objectives.joint import JointConfig, LabelsConfig
from pangu_cv.staging import write_text

ARMS = ("start", "joint", "labels alone")


def measure(*, data: str, is_quick: bool, arm: str, share: float, seed: int, steps: int) -> dict[str, Any]:
    """Balanced accuracy on each table's test images after ``arm`` saw ``share`` of the pools' labels."""
    recipe = pool_recipe(
        Path(data),
        "simclr" if arm == "labels alone" else "joint",
        seed=seed,
        name=f"labels-{arm.replace(' ', '_')}-{100 * share:g}-{seed}",
        is_quick=is_quick,
        labels=share,
        changes=(f"optim.steps={steps}", f"round_steps={steps}", "targets=[]"),
    )
    labelled = _labelled(recipe)
    if arm == "labels alone":
        recipe = _supervised(recipe, labelled)
    result = None if arm == "start" else run(recipe)
    accuracy = {
        table: _accuracy(Path(data), table, result.model if result else None, labelled, is_quick=is_quick)
        for table in subjects.TABLES
    }
    about = story(result) if result else {}
    return {"arm": arm, "share": share, "seed": seed, "labelled": len(labelled), "accuracy": accuracy, **about}


def _labelled(recipe: PretrainRecipe) -> set[Path]:
    images = gather(recipe.data, seed=recipe.seed, text_template=None)
    return {path for path, label in zip(images.paths, images.label_M, strict=True) if label >= 0}


def _supervised(recipe: PretrainRecipe, labelled: set[Path]) -> PretrainRecipe:
    """SupCon (arXiv 2004.11362) on the labelled images alone."""
    assert recipe.output is not None
    sources = []
    for source in recipe.data:
        chosen = [s for s in source.read() if s.split == "train" and s.path.resolve() in labelled]
        table = Path(recipe.output) / "labelled" / Path(source.path).name
        lines = [f"{s.path.relative_to(Path(str(source.root)))},{s.label},train\n" for s in chosen]
        write_text(table, "file,label,split\n" + "".join(lines))
        sources.append(source.model_copy(update={"path": table, "labels": 1.0}))
    assert isinstance(recipe.objective, JointConfig)
    labels = LabelsConfig(weight=1.0, only_near=False)
    objective = recipe.objective.model_copy(update={"labels": labels})
    return recipe.model_copy(update={"data": tuple(sources), "objective": objective})


def _accuracy(data: Path, table: str, weights: Path | None, labelled: set[Path], *, is_quick: bool) -> float:
    recipe, task = classifier(data, table, weights)
    dataset = recipe.data.read()
    support = tuple(s for s in dataset if s.split == "train" and s.path.resolve() in labelled)
    test = tuple(dataset.split("test"))[:: 20 if is_quick else 1]
    model = task.build(tuple(sorted({str(s.label) for s in support})))
    store, spec = FeatureStore(cache_folder(), model.fingerprint), recipe.data.decode_spec
    seen = extract([s.path for s in support], model, views=task.fit_views, store=store, decode_spec=spec)
    found = extract([s.path for s in test], model, views=task.decision_views, store=store, decode_spec=spec)
    return fit_draw(model, Draw(recipe.few_shot.seeds[0], support, test), seen, found).outcome.balanced_accuracy
