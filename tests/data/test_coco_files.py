"""COCO in several files, and what a file's place says."""

import json
from pathlib import Path

from pangu_cv.data.readers import read_dataset
from pangu_cv.data.sample import Box
from tests.data.test_readers_annotated import boxes_of, coco, image


def test_a_crowd_in_one_file_leaves_the_boxes_of_another(tmp_path: Path) -> None:
    tree = coco(tmp_path, split="pin", place=".")
    crowd = {**tree["annotations"][0], "iscrowd": 1}
    (tmp_path / "annotations" / "instances_hole.json").write_text(json.dumps({**tree, "annotations": [crowd]}))
    found = boxes_of(read_dataset(tmp_path))
    assert found["a.jpg"] == (Box("scratch", (10, 5, 30, 15)),)
    (tmp_path / "annotations" / "instances_pin.json").write_text(json.dumps({**tree, "annotations": []}))
    assert boxes_of(read_dataset(tmp_path)) == {"a.jpg": None, "b.jpg": ()}


def test_crowds_of_images_that_are_not_listed_are_no_wrong_ids(tmp_path: Path) -> None:
    tree = coco(tmp_path)
    crowd = {**tree["annotations"][0], "iscrowd": 1, "image_id": 99}
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps({**tree, "annotations": [crowd]}))
    assert boxes_of(read_dataset(tmp_path)) == {"a.jpg": (), "b.jpg": ()}


def test_the_name_of_the_dataset_is_no_part_of_it(tmp_path: Path) -> None:
    tree, folder = coco(tmp_path / "x"), tmp_path / "train data"
    image(folder / "a.jpg")
    (folder / "_annotations.coco.json").write_text(json.dumps(tree))
    assert [s.split for s in read_dataset(folder)] == [None]
