"""Boxes drawn on an image of another size than the one that is there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pangu_cv.data.check import check_dataset
from pangu_cv.data.readers import read_dataset
from pangu_cv.data.sample import Box, Dataset
from pangu_cv.verbs.data import check

WIDTH, HEIGHT = 64, 48
TOLD = "images are not of the size their annotations were drawn on and were taken as unlabelled"


def image(path: Path, *, seed: int = 0, exif_turn: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if exif_turn is not None:
        exif[274] = exif_turn
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)


def coco(folder: Path, bbox: list[float], **size: Any) -> None:
    """Two images with the same box, the second of the right size."""
    images = [{"id": 0, "file_name": "a.jpg"} | size, {"id": 1, "file_name": "b.jpg", "width": WIDTH, "height": HEIGHT}]
    boxes = [{"id": at, "image_id": at, "category_id": 1, "bbox": [10, 5, 20, 10] if at else bbox} for at in (0, 1)]
    tree = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "scratch"}]}
    (folder / "annotations").mkdir(parents=True)
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(tree))


def voc(folder: Path, bbox: list[float], **size: Any) -> None:
    x, y, width, height = bbox
    corners = f"<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + width}</xmax><ymax>{y + height}</ymax>"
    stated = "".join(f"<{side}>{value}</{side}>" for side, value in size.items())
    box = f"<object><name>scratch</name><bndbox>{corners}</bndbox></object>"
    (folder / "Annotations").mkdir(parents=True)
    (folder / "Annotations" / "a.xml").write_text(f"<annotation><size>{stated}</size>{box}</annotation>")


LAYOUTS = pytest.mark.parametrize(("write", "images"), [(coco, "train"), (voc, "JPEGImages")])


def boxes_of(dataset: Dataset) -> tuple[Box, ...] | None:
    return next(sample.boxes for sample in dataset if sample.path.name == "a.jpg")


@LAYOUTS
@pytest.mark.parametrize(("width", "height"), [(640, 480), (48, 64), (66, 48)])
def test_boxes_of_another_size_are_not_believed_and_fail_the_check(
    tmp_path: Path, write: Any, images: str, width: int, height: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, [10, 5, 20, 10], width=width, height=height)
    for seed, name in enumerate(("a.jpg", "b.jpg")):
        image(tmp_path / images / name, seed=seed)
    dataset = read_dataset(tmp_path)
    assert boxes_of(dataset) is None
    assert f"1 {TOLD}; first a.jpg" in dataset.notes
    found = check_dataset(tmp_path)
    assert not found.ok
    assert [(fault.path, fault.reason) for fault in found.box_faults] == [(f"{images}/a.jpg", "size")]
    assert found.box_faults[0].message == f"annotated at {width} x {height}, upright it has 64 x 48 pixels"
    assert found.advice[0].startswith("1 image of another size than their boxes were drawn on")
    assert found.to_json()["box_faults"][0]["reason"] == "size"
    with pytest.raises(SystemExit):
        check(tmp_path, report=tmp_path / "check.html")
    assert "boxes of another size: 1" in capsys.readouterr().out
    assert f"annotated at {width} x {height}" in (tmp_path / "check.html").read_text()


@LAYOUTS
def test_boxes_of_a_turned_image_belong_to_its_upright_size(tmp_path: Path, write: Any, images: str) -> None:
    for name, width, height in (("raw", WIDTH, HEIGHT), ("upright", HEIGHT, WIDTH)):
        write(tmp_path / name, [10, 5, 20, 10], width=width, height=height)
        image(tmp_path / name / images / "a.jpg", exif_turn=6)
    assert boxes_of(read_dataset(tmp_path / "raw")) is None
    assert boxes_of(read_dataset(tmp_path / "upright")) == (Box("scratch", (10, 5, 30, 15)),)


@LAYOUTS
@pytest.mark.parametrize("size", [{}, {"width": WIDTH + 1, "height": HEIGHT}, {"width": 0, "height": 0}])
def test_boxes_are_cut_at_the_size_that_the_image_has(
    tmp_path: Path, write: Any, images: str, size: dict[str, int]
) -> None:
    write(tmp_path, [40, 30, 200, 200], **size)
    image(tmp_path / images / "a.jpg")
    dataset = read_dataset(tmp_path)
    assert boxes_of(dataset) == (Box("scratch", (40, 30, WIDTH, HEIGHT)),)
    assert not dataset.box_faults


@LAYOUTS
def test_boxes_of_a_broken_image_are_taken_as_stated(tmp_path: Path, write: Any, images: str) -> None:
    write(tmp_path, [40, 30, 200, 200], width=100, height=90)
    (tmp_path / images).mkdir()
    (tmp_path / images / "a.jpg").write_bytes(b"no image")
    dataset = read_dataset(tmp_path)
    assert boxes_of(dataset) == (Box("scratch", (40, 30, 100, 90)),)
    assert not dataset.box_faults
