"""Another network as the student: its input is chosen once, and kept."""

from pathlib import Path
from typing import Any, cast

import pytest

from pangu_cv.distill import another
from pangu_cv.distill.another import Input, input_within
from pangu_cv.distill.budget import BudgetConfig, Cost
from pangu_cv.distill.latency import Origin
from pangu_cv.distill.recipe import TimmConfig
from pangu_cv.distill.stopwatch import Stopwatch
from pangu_cv.tasks import TaskModel


def test_a_killed_run_keeps_its_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busier now a smaller input would come out, which what was taught does not fit."""
    slowness = [1.0]

    def timed(self: Stopwatch, student: TaskModel) -> tuple[Cost, Cost]:
        side = student.config.preprocess.image_px
        return Cost(slowness[0] * side / 160, 1, 1), Cost(10, 1, 1)

    monkeypatch.setattr(Stopwatch, "time", timed)
    monkeypatch.setattr(another, "another_network", lambda teacher, student, image_px: _Sided(image_px))
    watch = Stopwatch(cast(Any, _Sided(160)), tmp_path / "whole", None, (40, 48))
    student, budget = TimmConfig(name="test_efficientnet", weights="random"), BudgetConfig(latency_ms=1.0)
    origin = Origin("a", (40, 48))
    first = input_within(budget, student, watch, tmp_path, key="a", origin=origin, normal_images=1)
    slowness[0] = 160 / 64
    assert (
        input_within(budget, student, watch, tmp_path, key="a", origin=origin, normal_images=1)
        == first
        == Input(160, 1.0)
    )
    assert input_within(budget, student, watch, tmp_path, key="b", origin=origin, normal_images=1) == Input(64, 1.0)
    assert input_within(budget, student, watch, tmp_path, key="b", origin=origin, normal_images=1) == Input(64, 1.0)


class _Sided:
    """Enough of a model to be timed."""

    kind = "classify"

    def __init__(self, image_px: int) -> None:
        self.config = self.preprocess = self
        self.image_px = image_px
