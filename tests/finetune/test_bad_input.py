"""What users bring by mistake, or by the camera they have: a clear word, and the rest goes on."""

from pathlib import Path

import numpy as np
import pytest

from pangu_cv.errors import DataError
from pangu_cv.finetune import finetune
from pangu_cv.tasks.saved import load_model
from pangu_runtime.decode import decode
from tests.finetune.tiny import QUICK, boxed, masked, recipe, save

ONE_STEP = (*QUICK, "train.steps=1", "few_shot.shots=null")


def test_one_class_of_boxes_is_enough(tmp_path: Path) -> None:
    data = boxed(tmp_path / "data")
    for annotation in (data / "Annotations").iterdir():
        annotation.write_text(annotation.read_text().replace("<name>light</name>", "<name>dark</name>"))
    result = finetune(recipe("detect", data, tmp_path / "run", *ONE_STEP))
    assert load_model(result.model).model.classes == ("dark",)


def test_one_class_of_images_is_too_few_to_tell_apart(tmp_path: Path) -> None:
    for name in "123":
        save(tmp_path / "data" / "only" / f"{name}.png", np.full((20, 20, 3), 9 * int(name), np.uint8))
    with pytest.raises(DataError, match="at least 2 classes, found only"):
        finetune(recipe("classify", tmp_path / "data", tmp_path / "run", "few_shot.shots=1"))


def test_images_without_an_annotation_among_the_others_are_passed_over(tmp_path: Path) -> None:
    data = boxed(tmp_path / "data")
    (data / "Annotations" / "train1.xml").unlink()
    result = finetune(recipe("detect", data, tmp_path / "run", *ONE_STEP))
    assert result.metrics["draws"][0]["labelled"] == 5


def test_boxes_outside_the_image_are_cut_or_left_out_and_told(tmp_path: Path) -> None:
    data = boxed(tmp_path / "data")
    path = data / "Annotations" / "train1.xml"
    path.write_text(path.read_text().replace("<xmax>", "<xmax>9", 1))  # far beyond the right edge
    result = finetune(recipe("detect", data, tmp_path / "run", *ONE_STEP))
    assert any("train1.xml" in note for note in result.metrics["notes"])


@pytest.mark.parametrize("kind", ["detect", "segment"])
def test_a_picture_of_20_megapixels_among_small_ones_is_learnt_in_tiles(tmp_path: Path, kind: str) -> None:
    data = (boxed if kind == "detect" else masked)(tmp_path / "data")
    folder = data / ("JPEGImages" if kind == "detect" else "images")
    small = decode(folder / "train1.png")
    large = np.full((4000, 5000, 3), 90, np.uint8)
    large[: small.shape[0], : small.shape[1]] = small
    save(folder / "train1.png", large)
    if kind == "segment":
        mask = np.zeros((4000, 5000), np.uint8)
        truth = decode(data / "masks" / "train1.png")[..., 0]
        mask[: truth.shape[0], : truth.shape[1]] = truth > 0
        save(data / "masks" / "train1.png", mask)
    settings = (*QUICK, "train.steps=4", "few_shot.shots=null", "task.tile={px: 64}")
    result = finetune(recipe(kind, data, tmp_path / "run", *settings))
    assert not result.metrics["skipped"]
    assert result.report.stat().st_size < 3_000_000  # pictures are shrunk before they are shown
