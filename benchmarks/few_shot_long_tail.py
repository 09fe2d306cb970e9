"""A long tail, 100 to 1: each loss and augmentation alone and together over plain cross-entropy with flips.

The classes of xsdd and neu_det in one pool, their order drawn anew; class number c of C has 100^(1 - c / (C - 1))
images. The backbone is frozen and the head is trained, so that nothing differs but the loss, the variants and the
start: training goes on from the closed form, which as shipped raises rare classes a little, and here does so in the
arms with a balanced start alone.
"""

from dataclasses import dataclass, field
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

TABLES = ("xsdd", "neu_det")
MOST, LEAST = 100, 1
TAIL = 10
"""A class with at most so many images is of the tail, one with at least ``HEAD`` of the head."""
HEAD = 40
FLIPS = {"scale": [1.0, 1.0], "light": 0.0, "blur": 0.0, "noise": 0.0}


@dataclass(frozen=True)
class Arm:
    """A loss, how images are varied, and ``balance``, by which the closed form raises rare classes before training."""

    loss: dict[str, Any]
    augment: dict[str, Any] = field(default_factory=dict)
    balance: float = 0.0


_ADJUSTED, _TWICE = {"kind": "logit_adjusted"}, {"kind": "logit_adjusted", "strength": 2.0}
_SHIPPED = 0.25
ARMS = {
    "cross-entropy, flips": Arm({"kind": "cross_entropy"}, FLIPS),
    "cross-entropy, all variants": Arm({"kind": "cross_entropy"}),
    "logit adjustment, flips": Arm(_ADJUSTED, FLIPS),
    "class-balanced, flips": Arm({"kind": "class_balanced"}, FLIPS),
    "Seesaw, flips": Arm({"kind": "seesaw"}, FLIPS),
    "ACSL, flips": Arm({"kind": "acsl"}, FLIPS),
    "balanced start, cross-entropy, flips": Arm({"kind": "cross_entropy"}, FLIPS, _SHIPPED),
    "logit adjustment, all variants": Arm(_ADJUSTED),
    "Seesaw, all variants": Arm({"kind": "seesaw"}),
    "balanced start, cross-entropy, all variants": Arm({"kind": "cross_entropy"}, {}, _SHIPPED),
    "balanced start, logit adjustment, all variants": Arm(_ADJUSTED, {}, _SHIPPED),
    "balanced start, logit adjustment twice as strong, all variants": Arm(_TWICE, {}, _SHIPPED),
}


def measure(*, data: str, is_quick: bool, arm: str, seed: int) -> dict[str, Any]:
    """Recall of every class on the test images, with the number of its training images."""
    chosen = ARMS[arm]
    base = subjects.classify_recipe(Path(data), TABLES[0], backbone=BACKBONE)
    tree = base.model_dump(mode="json") | {"adapt": {"kind": "linear"}, "loss": chosen.loss}
    tree["augment"], tree["task"]["head"]["balance"] = chosen.augment, chosen.balance
    tree["train"] = tree["train"] | {"steps": 2 if is_quick else 400, "batch": 32, "pool": 40 if is_quick else 1200}
    recipe = FinetuneRecipe.parse(tree, origin="benchmark")
    pool, test = _union(Path(data))
    counts = long_tail(sorted(pool), seed=seed)
    random = np.random.default_rng([seed, 5])
    support = [
        members[at]
        for name, count in counts.items()
        for members in [sorted(pool[name], key=lambda s: s.path.as_posix())]
        for at in random.permutation(len(members))[:count]
    ]
    measured = tuple(spread(test, 40)) if is_quick else test
    draw = Draw(seed, tuple(support), measured)
    task, classes = subjects.classify_task(recipe), tuple(sorted(counts))
    outcome = adapt_draw(task, recipe, classes, draw, Start.of(recipe, task, classes)).result.outcome
    recall = {name: float(value) for name, value in zip(outcome.classes, outcome.recall_per_class_C, strict=True)}
    return {"arm": arm, "seed": seed, "images": counts, "recall": recall, "balanced": outcome.balanced_accuracy}


def long_tail(classes: list[str], *, seed: int) -> dict[str, int]:
    """How many images each class has, from ``MOST`` to ``LEAST`` in an order of its own."""
    order = [classes[at] for at in np.random.default_rng([seed, 6]).permutation(len(classes))]
    ratio = LEAST / MOST
    return {name: max(1, round(MOST * ratio ** (place / (len(order) - 1)))) for place, name in enumerate(order)}


def _union(data: Path) -> tuple[dict[str, list[Sample]], tuple[Sample, ...]]:
    """Pool images by class, and the test images, classes named with their table."""
    pool: dict[str, list[Sample]] = {}
    test: list[Sample] = []
    for table in TABLES:
        for sample in subjects.classify_recipe(data, table).data.read():
            named = Sample(sample.path, label=f"{table}/{sample.label}", split=sample.split)
            if sample.split == "test":
                test.append(named)
            else:
                pool.setdefault(str(named.label), []).append(named)
    return pool, tuple(test)
