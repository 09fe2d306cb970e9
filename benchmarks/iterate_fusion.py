"""Three plants with overlapping classes become one model: each way of fusing against the ensemble and the best of them.

The 13 classes of xsdd and neu_det in an order drawn anew: plant a knows the first six, b the fourth to the tenth, c
the last six. Each has ten labelled images of its own of each class, and its own way of adapting one pretrained network.
What fuses them are other images of the pool, three of each class labelled. All is measured on test images.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import subjects
from benchmarks.few_shot_classification import BACKBONE
from benchmarks.latency import spread
from pangu_cv.data.sample import Sample
from pangu_cv.finetune.classify import Draw
from pangu_cv.finetune.classify_trained import Start, adapt_draw
from pangu_cv.finetune.recipe import FinetuneRecipe
from pangu_cv.iterate.fuse.bounds import ENSEMBLE, FUSED, LABELS, WEIGHTED, Bounds, bounds
from pangu_cv.iterate.fuse.costs import costs
from pangu_cv.iterate.fuse.deltas import LoraConfig
from pangu_cv.iterate.fuse.distil import GraphConfig
from pangu_cv.iterate.fuse.evidence import Reader, gather
from pangu_cv.iterate.fuse.gathering import Gathering
from pangu_cv.iterate.fuse.graph import MessagesConfig
from pangu_cv.iterate.fuse.members import Member, union_of
from pangu_cv.iterate.fuse.recipe import How
from pangu_cv.iterate.fuse.soup import SoupConfig
from pangu_cv.iterate.fuse.stage import fuse_by
from pangu_cv.tasks.saved import SavedModel, parent_of

TABLES = ("xsdd", "neu_det")
OWN = {"a": slice(0, 6), "b": slice(3, 10), "c": slice(7, 13)}
SHOTS, CHOOSING, TEACHING, TESTED = 10, 3, 20, 20
MIXES: dict[str, tuple[dict[str, Any], ...]] = {
    "mixed": ({"kind": "frozen"}, {"kind": "partial"}, {"kind": "full"}),
    "partial": ({"kind": "partial"},) * 3,
}
WAYS: dict[str, How] = {
    "graph": GraphConfig(),
    "plain distillation": GraphConfig(messages=MessagesConfig(rounds=0)),
    "uniform soup": SoupConfig(choose="uniform"),
    "greedy soup": SoupConfig(),
    "ties": LoraConfig(scale=1.0),
}


@dataclass(frozen=True)
class Parts:
    """Images of one seed: of each plant, those that fuse, and the test."""

    plants: dict[str, tuple[Sample, ...]]
    fusing: tuple[Sample, ...]
    test: tuple[Sample, ...]


def measure(*, data: str, is_quick: bool, mix: str, seed: int, ways: Sequence[str] = tuple(WAYS)) -> dict[str, Any]:
    """Balanced accuracy over all classes of every bound and way, with and without labelled images; costs as ratios."""
    start = time.perf_counter()
    parts = parts_of(Path(data), seed=seed, is_quick=is_quick)
    members = tuple(
        _plant(name, images, way, Path(data), seed=seed, is_quick=is_quick)
        for (name, images), way in zip(parts.plants.items(), MIXES[mix], strict=True)
    )
    fitted = time.perf_counter()
    reader = Reader(members[0].saved.provenance.decode, is_cached=False)
    classes = union_of(members)
    measured = gather(members, parts.test, classes, reader)
    found: dict[str, Any] = {"mix": mix, "seed": seed, "classes": {m.name: list(m.classes) for m in members}}
    for labels in ("labelled", "unlabelled"):
        images = parts.fusing if labels == "labelled" else [Sample(s.path) for s in parts.fusing]
        gathering = Gathering(members, classes, gather(members, images, classes, reader), reader, seed)
        chosen = {name: WAYS[name] for name in ways if labels == "labelled" or isinstance(WAYS[name], GraphConfig)}
        found[labels] = {name: _figures(gathering, how, measured) for name, how in chosen.items()}
    found["seconds"] = {"plants": fitted - start, "fusing": time.perf_counter() - fitted}
    return found


def parts_of(data: Path, *, seed: int, is_quick: bool) -> Parts:
    """Draw them: no image of the pool is used twice."""
    pool, test = _tables(data)
    random = np.random.default_rng([seed, 11])
    order = [sorted(pool)[at] for at in random.permutation(len(pool))]
    rest = {name: [pool[name][at] for at in random.permutation(len(pool[name]))] for name in order}
    shots, teaching, tested = (3, 2, 2) if is_quick else (SHOTS, TEACHING, TESTED)
    plants = {}
    for plant, places in OWN.items():
        taken = []
        for name in order[places]:
            count = min(shots, (len(rest[name]) - CHOOSING) // 2)
            taken += rest[name][:count]
            rest[name] = rest[name][count:]
        plants[plant] = tuple(taken)
    fusing = [s for name in order for s in rest[name][:CHOOSING]]
    fusing += [Sample(s.path) for name in order for s in rest[name][CHOOSING : CHOOSING + teaching]]
    return Parts(plants, tuple(fusing), tuple(s for name in order for s in spread(test[name], tested)))


def _tables(data: Path) -> tuple[dict[str, list[Sample]], dict[str, list[Sample]]]:
    pool: dict[str, list[Sample]] = defaultdict(list)
    test: dict[str, list[Sample]] = defaultdict(list)
    for table in TABLES:
        for sample in subjects.classify_recipe(data, table).data.read():
            name = f"{table}/{sample.label}"
            (test if sample.split == "test" else pool)[name].append(Sample(sample.path, label=name))
    return pool, test


def _plant(
    name: str, images: tuple[Sample, ...], way: dict[str, Any], data: Path, *, seed: int, is_quick: bool
) -> Member:
    base = subjects.classify_recipe(data, TABLES[0], backbone=BACKBONE)
    tree = base.model_dump(mode="json") | {"adapt": way}
    tree["train"] |= {"steps": 1 if is_quick else 60, "batch": 16, "backbone_lr": 3e-4, "max_seconds": 60.0}
    recipe = FinetuneRecipe.parse(tree, origin="benchmark")
    task, classes = subjects.classify_task(recipe), tuple(sorted({str(s.label) for s in images}))
    draw = Draw(seed, images, images[:1])  # what a plant is worth is measured below, on all classes
    model = adapt_draw(task, recipe, classes, draw, Start.of(recipe, task, classes)).model
    return Member(name, SavedModel(model, subjects.provenance(recipe), parent_of(model)), model, classes)


def _figures(gathering: Gathering, how: How, measured: Any) -> dict[str, Any]:
    start = time.perf_counter()
    fused = fuse_by(how, gathering)
    seconds = time.perf_counter() - start
    spent = costs([member.model for member in gathering.members], fused.model)
    messages = how if isinstance(how, GraphConfig) else GraphConfig()
    held: Bounds = bounds(gathering, fused, measured, messages=messages, costs=spent, is_flattering=False)
    figures = {name: outcome.balanced_accuracy for name, outcome in held.outcomes.items()}
    gap = held.against[ENSEMBLE].differences["balanced_accuracy"].interval
    return {
        "fused": figures[FUSED],
        "ensemble": figures[ENSEMBLE],
        "weighted": figures.get(WEIGHTED),
        "labels_alone": figures.get(LABELS),
        "singles": {member.name: figures[member.name] for member in gathering.members},
        "best_single": held.best,
        "over_ensemble": gap.as_json(),
        "decided_alike": held.same,
        "cost_ratio": held.ratios,
        "backbones": held.together.backbones,
        "told": fused.told,
        "seconds": seconds,
    }
