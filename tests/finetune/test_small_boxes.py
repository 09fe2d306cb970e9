from pathlib import Path

import numpy as np

from pangu_cv.data.sample import Box, Sample
from pangu_cv.finetune import finetune
from pangu_cv.finetune.small_boxes import small_boxes
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.tasks.detect import DetectConfig
from pangu_runtime.decode import DEFAULT_SPEC
from tests.finetune.tiny import QUICK, boxed, recipe, save


def test_boxes_that_shrinking_makes_tiny_are_told_with_the_tile_to_set(tmp_path: Path) -> None:
    path = save(tmp_path / "wide.png", np.zeros((100, 640, 3), np.uint8))
    task = DetectConfig(preprocess=PreprocessConfig(image_px=64))

    def told(*sides: float, task: DetectConfig = task) -> list[str]:
        boxes = tuple(Box("spot", (0, 0, side, side)) for side in sides)
        return small_boxes([Sample(path, boxes=()), Sample(path, boxes=boxes)], task, DEFAULT_SPEC)

    [note] = told(20, 20, 90)
    assert "at most 2.0 pixels" in note
    assert "task.tile={px: 64, overlap: 0.2}" in note
    assert told(90, 90, 20) == []
    assert told() == []
    assert told(20, task=task.model_copy(update={"tile": object()})) == []
    whole = task.model_copy(update={"preprocess": PreprocessConfig(image_px=640)})
    assert told(6, task=whole) == []  # small, but shrinking is not why


def test_a_run_tells_it(tmp_path: Path) -> None:
    data = boxed(tmp_path / "data", side=128)
    more = ("task.preprocess.image_px=32", "train.steps=1", "few_shot.shots=1")
    result = finetune(recipe("detect", data, tmp_path / "run", *QUICK, *more))
    assert any("task.tile={px: 32, overlap: 0.2}" in note for note in result.metrics["notes"])
