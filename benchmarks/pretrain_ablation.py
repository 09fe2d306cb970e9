"""What each term brings: the same run with a term off, with one more, or of another kind, judged by its probes.

Probes lie within the pools, so that what is chosen on this table has not seen a test image.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pretrain_subjects import pool_recipe, run, story


@dataclass(frozen=True)
class Arm:
    """A shipped recipe, what is changed of it, and the share of pool labels it sees."""

    preset: str = "joint_repair"
    changes: tuple[str, ...] = ()
    labels: float = 0.0


ARMS = {
    "joint": Arm(),
    "joint, no neighbours": Arm(changes=("objective.neighbours.weight=0",)),
    "joint, last depth only": Arm(changes=("objective.depths=0",)),
    "joint, no repair": Arm(changes=("objective.repair.weight=0",)),
    "joint, half hidden": Arm(changes=("objective.hidden=0.5",)),
    "joint, with KoLeo": Arm(changes=("objective.koleo=0.1",)),
    "joint, no damage": Arm(changes=("views.damage.p=0", "objective.repair.weight=0")),
    "joint, all labels": Arm(labels=1.0),
    "labels alone": Arm("simclr", ("objective.same_image=0", "objective.labels={weight: 1, only_near: false}"), 1.0),
    "simclr": Arm("simclr"),
    "moco": Arm("moco"),
    "dino": Arm("dino"),
    "mae": Arm("mae"),
}


def measure(*, data: str, is_quick: bool, arm: str, seed: int, steps: int) -> dict[str, Any]:
    """One arm, one seed, ``steps`` steps, probed once at the end."""
    chosen = ARMS[arm]
    recipe = pool_recipe(
        Path(data),
        chosen.preset,
        seed=seed,
        name=f"ablation-{slug(arm)}-{seed}",
        is_quick=is_quick,
        labels=chosen.labels,
        changes=(f"optim.steps={steps}", f"round_steps={steps}", *chosen.changes),
    )
    return {"arm": arm, "seed": seed, "asked_steps": steps, **story(run(recipe))}


def slug(arm: str) -> str:
    """An arm in the name of a file."""
    return arm.replace(", ", "-").replace(" ", "_").lower()
