"""Does pretraining on the plant's own images help? The joint recipe on the pools, then few-shot on the test images."""

from pathlib import Path
from typing import Any

from benchmarks.pretrain_subjects import few_shot, pool_recipe, run, story

_JUDGED = 720  # images of a table at most; 40 % are held out to judge


def start(*, data: str, is_quick: bool, shots: int, draws: int) -> dict[str, Any]:
    """The weights that every run starts from."""
    return {"shots": shots, "per_draw": few_shot(Path(data), None, shots=shots, draws=draws, is_quick=is_quick)}


def measure(*, data: str, is_quick: bool, preset: str, seed: int, shots: int, draws: int) -> dict[str, Any]:
    """One run and its best weights on the test images; the choice of weights and the verdict see the pools only."""
    name = f"gain-{preset}-{seed}"
    recipe = pool_recipe(Path(data), preset, seed=seed, name=name, is_quick=is_quick, images=_JUDGED)
    result = run(recipe)
    per_draw = few_shot(Path(data), result.model, shots=shots, draws=draws, is_quick=is_quick)
    return {"shots": shots, "seed": seed, "preset": preset, "per_draw": per_draw, **story(result)}
