"""Rectangles turned in CVAT, which exports them as they were before beside their angle."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pangu_cv.data.readers import read_dataset
from pangu_cv.data.sample import Dataset

BOX = (30.0, 40.0, 70.0, 60.0)
TOLD = "boxes are rotated and were replaced by the upright boxes around them"


def image(path: Path) -> None:
    path.parent.mkdir(parents=True)
    Image.new("RGB", (100, 100)).save(path)


def coco(folder: Path, rotation: Any, **changes: Any) -> Dataset:
    image(folder / "images" / "a.png")
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [30, 40, 40, 20], "segmentation": []}
    box["attributes"] = {"occluded": False, "rotation": rotation}
    tree = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [box | changes]}
    (folder / "annotations").mkdir()
    file = folder / "annotations" / "instances_default.json"
    file.write_text(json.dumps(tree | {"categories": [{"id": 1, "name": "wire"}]}))
    return read_dataset(folder)


def voc(folder: Path, rotation: Any) -> Dataset:
    image(folder / "JPEGImages" / "a.png")
    corners = "<xmin>30</xmin><ymin>40</ymin><xmax>70</xmax><ymax>60</ymax>"
    told = "".join(
        f"<attribute><name>{name}</name><value>{value}</value></attribute>"
        for name, value in {"occluded": False, "rotation": rotation}.items()
    )
    box = f"<object><name>wire</name><bndbox>{corners}</bndbox><attributes>{told}</attributes></object>"
    (folder / "Annotations").mkdir()
    (folder / "Annotations" / "a.xml").write_text(f"<annotation>{box}</annotation>")
    return read_dataset(folder)


LAYOUTS = pytest.mark.parametrize("write", [coco, voc])


def corners(dataset: Dataset) -> tuple[float, ...]:
    (box,) = dataset.samples[0].boxes or ()
    return box.xyxy


@LAYOUTS
@pytest.mark.parametrize(
    ("rotation", "expected"),
    [
        (90.0, (40, 30, 60, 70)),
        (45.0, (50 - 21.213, 50 - 21.213, 50 + 21.213, 50 + 21.213)),
        (330.0, (50 - 22.321, 50 - 18.660, 50 + 22.321, 50 + 18.660)),
    ],
)
def test_the_box_around_the_turned_rectangle_is_taken(
    tmp_path: Path, write: Any, rotation: float, expected: tuple[float, ...]
) -> None:
    dataset = write(tmp_path, rotation)
    assert corners(dataset) == pytest.approx(expected, abs=1e-3)
    assert any(note.startswith(f"1 {TOLD}") for note in dataset.notes)


@LAYOUTS
@pytest.mark.parametrize("rotation", [0.0, 180.0, "left", True, float("inf")])
def test_a_box_that_is_not_turned_stays(tmp_path: Path, write: Any, rotation: Any) -> None:
    dataset = write(tmp_path, rotation)
    assert corners(dataset) == BOX
    assert not any(TOLD in note for note in dataset.notes)


def test_the_box_of_an_outline_is_around_it_already(tmp_path: Path) -> None:
    outline = [[30, 50, 50, 40, 70, 50, 50, 60]]
    assert corners(coco(tmp_path, 45.0, segmentation=outline)) == BOX


def test_turning_makes_no_box_of_a_faulty_one(tmp_path: Path) -> None:
    dataset = coco(tmp_path, 45.0, bbox=[30, 40, -3, 20])
    assert dataset.samples[0].boxes is None
    assert dataset.notes[0].startswith("1 boxes without area were left out")
