"""Five labels a class: every way of adapting and ``auto`` against the closed form on frozen features, same draws."""

import time
from pathlib import Path
from typing import Any

from benchmarks import subjects
from pangu_cv import recipes
from pangu_cv.finetune.classify_trained import Start, adapt_draw
from pangu_cv.finetune.recipe import FinetuneRecipe
from pangu_cv.finetune.unlabelled_pool import with_pools

BACKBONE = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
BASELINE = "frozen, no variants"  # the head of the first benchmark
BESIDE = "frozen, unlabelled"  # the same, and the training images that were not drawn, their labels not looked at
AUTO_BESIDE = "auto, unlabelled"
FOUR_VIEWS = "frozen, variants, unlabelled, four views"  # the line sees four views too, at four times the arithmetic
WAYS: dict[str, dict[str, Any] | None] = {
    BASELINE: {"kind": "frozen"},
    BESIDE: {"kind": "frozen"},
    "frozen": {"kind": "frozen"},
    "frozen, variants, unlabelled": {"kind": "frozen"},
    FOUR_VIEWS: {"kind": "frozen"},
    "linear": {"kind": "linear"},
    "partial 2": {"kind": "partial", "blocks": 2, "interpolate": 0.5},
    "partial 6": {"kind": "partial", "blocks": 6, "interpolate": 0.5},
    "partial 6, all the way": {"kind": "partial", "blocks": 6},
    "partial 6, settling": {"kind": "partial", "blocks": 6, "interpolate": 0.5, "settled": 0.5},
    "lora": {"kind": "lora"},
    "prompt": {"kind": "prompt"},
    "full": {"kind": "full", "interpolate": 0.5},
    "auto": None,  # as the recipe says
    AUTO_BESIDE: None,
}


def measure(*, data: str, is_quick: bool, table: str, way: str, shots: int, draws: int) -> dict[str, Any]:
    """Balanced accuracy and seconds, draw by draw."""
    plain = subjects.classify_recipe(Path(data), table, backbone=BACKBONE)
    shipped = FinetuneRecipe.load(recipes.find("finetune", "classify_adapt"), ["data.path=unused"])
    train = shipped.train.model_copy(update={"steps": 2} if is_quick else {})
    augment = shipped.augment.model_copy(update={"variants": 0} if way in (BASELINE, BESIDE) else {})
    tree = plain.model_dump(mode="json") | {
        "adapt": WAYS[way] or shipped.adapt.model_dump(mode="json"),
        "train": train.model_dump(mode="json"),
        "augment": augment.model_dump(mode="json"),
        "cache": False,
        "unlabelled": {} if learns_from_others(way) else None,
    }
    if way == FOUR_VIEWS:
        tree["task"] |= {"decision_views": tree["task"]["fit_views"]}
    recipe = FinetuneRecipe.parse(tree, origin="benchmark")
    task = subjects.classify_task(recipe)
    seeds = range(2 if is_quick else draws)
    dataset, chosen = subjects.classify_draws(recipe, shots=shots, seeds=seeds, is_quick=is_quick)
    chosen = with_pools(chosen, recipe, dataset)
    classes = tuple(sorted({str(s.label) for s in chosen[0].support}))
    found: dict[str, list[Any]] = {"accuracy": [], "fit_seconds": [], "learning": [], "saved": [], "taken": []}
    found |= {"unlabelled": []}
    untouched = Start.of(recipe, task, classes)
    for draw in chosen:
        start = time.perf_counter()
        adapted = adapt_draw(task, recipe, classes, draw, untouched)
        found["accuracy"].append(adapted.result.outcome.balanced_accuracy)
        found["fit_seconds"].append(time.perf_counter() - start - adapted.measuring_seconds)
        found["learning"].append(adapted.history.learning)
        found["saved"].append(adapted.history.saved)
        found["unlabelled"].append(adapted.taught.as_json(classes) if adapted.taught else None)
        found["taken"].append(adapted.choice.way.model_dump(mode="json") if adapted.choice else None)
    return {"table": table, "way": way, "shots": shots, **found}


def learns_from_others(way: str) -> bool:
    """Whether the training images that were not drawn teach too."""
    return "unlabelled" in way
