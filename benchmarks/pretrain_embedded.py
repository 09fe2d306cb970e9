"""The project's own embedded backbone beside the default one: the same head, draws and test images."""

from pathlib import Path
from typing import Any

from benchmarks.pretrain_subjects import few_shot


def measure(*, data: str, is_quick: bool, backbones: list[str], shots: int, draws: int) -> dict[str, Any]:
    """Balanced accuracy by backbone, table and draw: the frozen head of ``classify`` at 224 px on the test images."""
    options: dict[str, Any] = {"shots": shots, "draws": draws, "is_quick": is_quick}
    per_draw = {name: few_shot(Path(data), None, backbone=name, **options) for name in backbones}
    return {"shots": shots, "per_draw": per_draw}
