"""COCO files that name one image in several places, or their images otherwise than their annotations do."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pangu_cv.data.coco_writer import write_coco
from pangu_cv.data.readers import read_dataset
from pangu_cv.data.sample import Box, Dataset
from pangu_cv.errors import DataError

BOX = (1.0, 2.0, 21.0, 12.0)


def write(folder: Path, name: str, label: str = "pit", *, ids: tuple[Any, Any] = (0, 1), **changes: Any) -> None:
    """A file of two images, the first with a box."""
    tree: dict[str, Any] = {
        "images": [{"id": number, "file_name": f"{at}.png"} for at, number in enumerate(ids)],
        "annotations": [{"id": 1, "image_id": ids[0], "category_id": 1, "bbox": [1, 2, 20, 10]}],
        "categories": [{"id": 1, "name": label}],
    }
    for place in ("annotations", "images"):
        (folder / place).mkdir(exist_ok=True)
    for at in range(2):
        Image.new("RGB", (40, 20)).save(folder / "images" / f"{at}.png")
    (folder / "annotations" / f"instances_{name}.json").write_text(json.dumps(tree | changes))


def found(dataset: Dataset) -> list[tuple[str, str | None, list[str] | None]]:
    return [(s.path.name, s.split, None if s.boxes is None else [b.label for b in s.boxes]) for s in dataset]


def test_a_file_for_each_class_gives_each_image_once_with_all_its_boxes(tmp_path: Path) -> None:
    write(tmp_path, "scratch", "scratch")
    write(tmp_path, "pit", "pit", ids=(1, 0))
    dataset = read_dataset(tmp_path)
    assert found(dataset) == [("0.png", None, ["pit", "scratch"]), ("1.png", None, [])]
    assert dataset.classes == ("pit", "scratch")


def test_an_annotation_that_two_files_hold_counts_once_and_the_split_is_of_the_file_that_tells_it(
    tmp_path: Path,
) -> None:
    for name in ("all", "train"):
        write(tmp_path, name)
    assert found(read_dataset(tmp_path)) == [("0.png", "train", ["pit"]), ("1.png", "train", [])]


def test_boxes_of_another_size_in_one_file_make_the_image_unlabelled(tmp_path: Path) -> None:
    write(tmp_path, "pit")
    write(tmp_path, "scratch", images=[{"id": 0, "file_name": "0.png", "width": 400, "height": 200}])
    assert found(read_dataset(tmp_path)) == [("0.png", None, None), ("1.png", None, [])]


def test_an_image_in_two_splits_is_refused(tmp_path: Path) -> None:
    for name in ("train", "test"):
        write(tmp_path, name)
    with pytest.raises(DataError, match=r"instances_train\.json: '0\.png' is in train, but in test by another file"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(("listed", "named"), [(0, "0"), ("0", 0), (0, 0.0), ("7", 7.0), ("a", "a")])
def test_ids_that_look_alike_are_the_same(tmp_path: Path, listed: Any, named: Any) -> None:
    annotation = {"id": 1, "image_id": named, "category_id": "1", "bbox": [1, 2, 20, 10]}
    write(tmp_path, "train", ids=(listed, 1), annotations=[annotation])
    assert read_dataset(tmp_path).samples[0].boxes == (Box("pit", BOX),)


@pytest.mark.parametrize("image_id", ["zero", None, 5])
def test_annotations_of_no_image_are_refused_where_all_are_and_told_where_some_are(
    tmp_path: Path, image_id: Any
) -> None:
    stray = {"id": 1, "image_id": image_id, "category_id": 1, "bbox": [1, 2, 20, 10]}
    write(tmp_path, "train", annotations=[stray])
    with pytest.raises(DataError, match=r"train\.json: none of its annotations is of an image it lists.*the ids 0, 1"):
        read_dataset(tmp_path)
    write(tmp_path, "train", annotations=[stray, stray, stray | {"image_id": 1}])
    dataset = read_dataset(tmp_path)
    assert found(dataset) == [("0.png", "train", []), ("1.png", "train", ["pit"])]
    assert dataset.notes == (
        "2 annotations are of images that instances_train.json does not list and were left out; "
        f"first image_id {image_id}",
        "1 images have no annotation and are taken as showing nothing; first 0.png",
    )


def test_images_that_no_file_annotates_are_told(tmp_path: Path) -> None:
    write(tmp_path, "scratch", "scratch")
    [note] = read_dataset(tmp_path).notes
    assert note == "1 images have no annotation and are taken as showing nothing; first 1.png"
    write(tmp_path, "pit", annotations=[{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 20, 10]}])
    assert read_dataset(tmp_path).notes == ()


def test_a_mark_at_the_start_of_the_file_is_skipped(tmp_path: Path) -> None:
    write(tmp_path, "train")
    file = tmp_path / "annotations" / "instances_train.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert found(read_dataset(tmp_path)) == [("0.png", "train", ["pit"]), ("1.png", "train", [])]


def test_names_that_are_no_utf8_are_written_and_read_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"d\xe9faut.png")
    images = [{"id": 0, "file_name": name}, {"id": 1, "file_name": "1.png"}]
    write(tmp_path, "train", "裂纹", images=images)
    (tmp_path / "images" / "0.png").rename(tmp_path / "images" / name)
    write_coco(read_dataset(tmp_path), tmp_path / "out")
    again = read_dataset(tmp_path / "out")
    assert sorted(found(again)) == [("1.png", "train", []), (name, "train", ["裂纹"])]
    assert "裂纹" in (tmp_path / "out" / "annotations" / "instances_train.json").read_text(encoding="utf-8")


def test_images_without_an_id_have_no_boxes(tmp_path: Path) -> None:
    stray = {"id": 1, "category_id": 1, "bbox": [1, 2, 20, 10]}
    images = [{"file_name": "0.png"}, {"id": 1, "file_name": "1.png"}]
    write(tmp_path, "train", images=images, annotations=[stray, stray | {"image_id": 1}])
    assert found(read_dataset(tmp_path)) == [("0.png", "train", []), ("1.png", "train", ["pit"])]
