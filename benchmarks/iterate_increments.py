"""Classes in five steps: what an update knows and costs, beside learning everything again and beside fine-tuning.

The 19 classes of xsdd, neu_det and magnetic_tile in an order drawn anew, three to begin with and four at a time, twenty
labelled images each. After every step all are measured on test images of the classes known so far. The update embeds
the new images and learns without the old ones. Beside it: the same recipe on all images again (joint), a logistic
regression on features that were kept (probe), and after the last step the last blocks trained on all images again
(retraining), and on the new images and five old ones of each class (replay). Operations are those that torch executes,
those of factorisations by their formulas; counting slows small steps more than large ones, so everything is done twice,
timed and then counted (embedding: counted on 32 images, as every image takes the same). Frozen set, ledger and report
come on top.
"""

import copy
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import subjects
from benchmarks.baselines import balanced_accuracy
from benchmarks.few_shot_classification import BACKBONE
from benchmarks.latency import spread
from pangu_cv.data.sample import Sample
from pangu_cv.features import Extraction, FeatureStore, cache_folder, content_digest, extract
from pangu_cv.finetune.classify_trained import Start, adapt
from pangu_cv.finetune.recipe import FinetuneRecipe
from pangu_cv.tasks.class_memory import ClassMemory, Lesson
from pangu_cv.tasks.classify import ClassifyModel

TABLES = ("xsdd", "neu_det", "magnetic_tile_classes")
FIRST, EACH = 3, 4
SHOTS, TESTED, OLD = 20, 30, 5
EPOCHS, BATCH = 5, 16
COUNTED = 32  # images on which operations of embedding are counted
Made = TypeVar("Made")
WAYS = ("update", "joint", "probe", "retraining", "replay")


@dataclass
class Cost:
    """Seconds and billions of operations."""

    seconds: float = 0.0
    gflop: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.seconds + other.seconds, self.gflop + other.gflop)

    def as_json(self) -> dict[str, float]:
        """Plain values."""
        return {"seconds": self.seconds, "gflop": self.gflop}


@dataclass(frozen=True)
class Classes:
    """Images of every class to learn from and to measure on; the names in the order in which they come."""

    order: tuple[str, ...]
    learnt: Mapping[str, tuple[Sample, ...]]
    tested: Mapping[str, tuple[Sample, ...]]

    def known(self, step: int) -> tuple[str, ...]:
        """Names after a step, the first of which is 0."""
        return self.order[: FIRST + EACH * step]

    def new(self, step: int) -> list[Sample]:
        """Images that come with a step."""
        names = self.known(step)[len(self.known(step - 1)) if step else 0 :]
        return [sample for name in names for sample in self.learnt[name]]

    @property
    def steps(self) -> int:
        """How many, the first included."""
        return 1 + math.ceil((len(self.order) - FIRST) / EACH)


def measure(*, data: str, is_quick: bool, seed: int, shots: int | None = SHOTS, trained: bool = True) -> dict[str, Any]:
    """Accuracy and cost of every way after every step; ``trained``: retraining and replay after the last one too."""
    classes = classes_of(Path(data), seed=seed, shots=2 if is_quick else shots, tested=3 if is_quick else TESTED)
    if is_quick:
        classes = replace(classes, order=classes.order[: FIRST + EACH])
    recipe = subjects.classify_recipe(Path(data), TABLES[0], backbone=BACKBONE)
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    _closed_forms(classes, recipe, found)
    if trained:
        _by_gradient(classes, recipe, found, is_quick=is_quick, seed=seed)
    counts = [sum(len(classes.learnt[name]) for name in classes.known(step)) for step in range(classes.steps)]
    return {"seed": seed, "shots": shots, "classes": list(classes.order), "images": counts, "ways": dict(found)}


def classes_of(data: Path, *, seed: int, shots: int | None, tested: int) -> Classes:
    """Draw the order and the images."""
    pool, test = defaultdict(list), defaultdict(list)
    for table in TABLES:
        for sample in subjects.classify_recipe(data, table).data.read():
            name = f"{table}/{sample.label}"
            (test if sample.split == "test" else pool)[name].append(Sample(sample.path, label=name))
    random = np.random.default_rng([seed, 31])
    order = [sorted(pool)[at] for at in random.permutation(len(pool))]
    drawn = {name: [pool[name][at] for at in random.permutation(len(pool[name]))][:shots] for name in order}
    learnt = {name: tuple(images) for name, images in drawn.items()}
    return Classes(tuple(order), learnt, {name: tuple(spread(test[name], tested)) for name in order})


def _closed_forms(classes: Classes, recipe: FinetuneRecipe, found: dict[str, list[dict[str, Any]]]) -> None:
    """The update, the same recipe on everything again, and the probe."""
    task, spec = subjects.classify_task(recipe), recipe.data.decode_spec
    model = task.build(classes.known(0))
    cached = FeatureStore(cache_folder(), model.fingerprint)
    tested = [sample for name in classes.order for sample in classes.tested[name]]
    seen = extract([s.path for s in tested], model, views=task.decision_views, store=cached, decode_spec=spec)
    test = {sample.path: torch.from_numpy(seen.features_NVD[seen.index[sample.path]]) for sample in tested}
    lessons: list[Lesson] = []
    memory: ClassMemory | None = None
    embedding = Cost()
    for step in range(classes.steps):
        names, new = classes.known(step), classes.new(step)
        rows, embedded = _costed_embedding(new, model, recipe)
        fresh = [
            Lesson(content_digest(s.path), (str(s.label),), torch.from_numpy(rows.features_NVD[rows.index[s.path]]))
            for s in new
        ]
        lessons += fresh
        embedding += embedded
        (updated, memory), learning = costing(partial(_learnt, model, memory, fresh, names))
        found["update"].append(_told(_accuracy(updated, classes, names, test), embedded + learning, memory))
        joint, fitting = costing(partial(_fitted, copy.deepcopy(model), names, lessons))
        found["joint"].append(_told(_accuracy(joint, classes, names, test), embedding + fitting))
        found["probe"].append(_probe(lessons, names, classes, test, embedded, views=len(task.fit_views)))
        model = updated


def _embedded(images: Sequence[Sample], model: ClassifyModel, recipe: FinetuneRecipe) -> Extraction:
    """Every view of images that nobody has seen before."""
    views, paths = model.config.fit_views, [sample.path for sample in images]
    return extract(paths, model, views=views, store=FeatureStore(None, ""), decode_spec=recipe.data.decode_spec)


def _costed_embedding(
    images: Sequence[Sample], model: ClassifyModel, recipe: FinetuneRecipe
) -> tuple[Extraction, Cost]:
    """All are timed; operations are counted on some, as every image takes the same."""
    start = time.perf_counter()
    rows = _embedded(images, model, recipe)
    seconds = time.perf_counter() - start
    some = images[:COUNTED]
    counted = operations(partial(_embedded, some, model, recipe))
    return rows, Cost(seconds, counted * len(images) / len(some))


def _learnt(
    model: ClassifyModel, memory: ClassMemory | None, fresh: Sequence[Lesson], names: Sequence[str]
) -> tuple[ClassifyModel, ClassMemory]:
    """The model after an update and what it remembers; the first classes are fitted."""
    updated = copy.deepcopy(model)
    if memory is None:
        _fitted(updated, names, fresh)
        memory = ClassMemory.of(updated, fresh, per_class=model.config.memory_per_class or 20)
    else:
        memory = memory.learn(model, fresh)
    memory.teach(updated)
    return updated, memory


def _fitted(model: ClassifyModel, names: Sequence[str], lessons: Sequence[Lesson]) -> ClassifyModel:
    model.rebuild_head(names)
    labels_N = torch.tensor([list(names).index(one.classes[0]) for one in lessons])
    return model.fit(torch.stack([one.features_VD for one in lessons]), labels_N)


@torch.inference_mode()
def _accuracy(model: ClassifyModel, classes: Classes, names: Sequence[str], test: Mapping[Path, Any]) -> float:
    """Balanced over the classes known so far."""
    shown = [sample for name in names for sample in classes.tested[name]]
    _, labels_N, _ = model.decide_from_features(torch.stack([test[s.path] for s in shown]), model.threshold)
    truth = np.array([model.classes.index(str(s.label)) for s in shown])
    return balanced_accuracy(labels_N.numpy(), truth)


def _probe(
    lessons: Sequence[Lesson],
    names: Sequence[str],
    classes: Classes,
    test: Mapping[Path, Any],
    embedded: Cost,
    *,
    views: int,
) -> dict[str, Any]:
    """Of one view each, standardised; the embedding of the new images is its share of the update's."""
    shown = [sample for name in names for sample in classes.tested[name]]
    truth_N = np.array([list(names).index(one.classes[0]) for one in lessons])
    start = time.perf_counter()
    rows = np.stack([one.features_VD[0].numpy() for one in lessons])
    mean, scale = rows.mean(0), rows.std(0) + 1e-6
    probe = LogisticRegression(max_iter=500).fit((rows - mean) / scale, truth_N)
    seconds = time.perf_counter() - start
    steps = int(np.max(probe.n_iter_))
    solving = Cost(seconds, 4e-9 * steps * rows.size * len(names))  # scores and gradient in every step
    cost = Cost(embedded.seconds / views, embedded.gflop / views) + solving
    predicted = probe.predict((np.stack([test[s.path][0].numpy() for s in shown]) - mean) / scale)
    truth = np.array([list(names).index(str(s.label)) for s in shown])
    return _told(balanced_accuracy(predicted, truth), cost)


def _by_gradient(
    classes: Classes, recipe: FinetuneRecipe, found: dict[str, list[dict[str, Any]]], *, is_quick: bool, seed: int
) -> None:
    """Both after the last step, from the pretrained network."""
    last = classes.steps - 1
    everything = [sample for step in range(classes.steps) for sample in classes.new(step)]
    old = [sample for name in classes.known(last - 1) for sample in classes.learnt[name][:OLD]]
    names = classes.known(last)
    for way, shown in (("retraining", everything), ("replay", [*old, *classes.new(last)])):
        model, cost = _trained(recipe, names, shown, is_quick=is_quick, seed=seed)
        found[way].append(_told(_measured(model, recipe, classes, names), cost))


def _trained(
    recipe: FinetuneRecipe,
    names: Sequence[str],
    images: Sequence[Sample],
    *,
    is_quick: bool,
    seed: int,
) -> tuple[ClassifyModel, Cost]:
    """The last blocks learn."""
    tree = recipe.model_dump(mode="json") | {"adapt": {"kind": "partial"}, "cache": False}
    steps = 1 if is_quick else math.ceil(EPOCHS * len(images) / BATCH)
    tree["train"] |= {"steps": steps, "batch": BATCH, "workers": 0}
    asked = FinetuneRecipe.parse(tree, origin="benchmark")
    task = subjects.classify_task(asked)
    model = task.build(names)
    learnt, cost = costing(
        lambda: adapt(
            task, asked, tuple(names), images, seed=seed, start=Start(model, FeatureStore(None, model.fingerprint))
        )
    )
    return learnt.model, cost


def _measured(model: ClassifyModel, recipe: FinetuneRecipe, classes: Classes, names: Sequence[str]) -> float:
    shown = [sample for name in names for sample in classes.tested[name]]
    store, views = FeatureStore(None, ""), model.config.decision_views
    seen = extract([s.path for s in shown], model, views=views, store=store, decode_spec=recipe.data.decode_spec)
    test = {s.path: torch.from_numpy(seen.features_NVD[seen.index[s.path]]) for s in shown}
    return _accuracy(model, classes, names, test)


def _told(accuracy: float, cost: Cost, memory: ClassMemory | None = None) -> dict[str, Any]:
    about = {"accuracy": accuracy, **cost.as_json()}
    return about if memory is None else about | {"memory_mb": memory.nbytes / 1e6, "is_folded": memory.is_folded}


def costing(work: Callable[[], Made]) -> tuple[Made, Cost]:
    """What the work gives; its seconds, and the operations when it is done once more."""
    start = time.perf_counter()
    made = work()
    seconds = time.perf_counter() - start
    return made, Cost(seconds, operations(work))


def operations(work: Callable[[], object]) -> float:
    """Billions that torch executes in the work."""
    aten = torch.ops.aten
    formulas: dict[Any, Callable[..., int]] = {
        aten.linalg_cholesky_ex: lambda a, *_, **__: a[-1] ** 3 // 3,
        aten.linalg_solve_triangular: lambda a, b, *_, **__: a[-1] ** 2 * b[-1],
        aten.cholesky_solve: lambda b, a, *_, **__: 2 * a[-1] ** 2 * b[-1],
        aten._linalg_solve_ex: lambda a, b, *_, **__: 2 * a[-1] ** 3 // 3 + 2 * a[-1] ** 2 * b[-1],
    }
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        work()
    return float(counter.get_total_flops() / 1e9)
