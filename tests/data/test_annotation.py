import json
from pathlib import Path

import pytest
from PIL import Image

from pangu_cv.data.readers import read_dataset
from pangu_cv.data.readers.annotation import split_of, upright_size
from pangu_cv.errors import DataError


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_train2017", "train"),
        ("annotationsTrain", "train"),
        ("COCOTrain", "train"),
        ("TRAIN", "train"),
        ("testing-set", "test"),
        ("trainset", "train"),
        ("trainval", "train"),
        ("valid", "val"),
        ("my validation set", "val"),
        ("instances_minival2014", "val"),
        ("valve_parts", None),
        ("instances_interval", None),
        ("strain gauges", None),
        ("latest", None),
        ("contest2", None),
    ],
)
def test_a_split_is_told_by_a_word_of_its_own(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_the_size_of_an_image_above_the_limit_of_decoding_is_known(tmp_path: Path) -> None:
    (tmp_path / "a.pbm").write_bytes(b"P4\n20000 10000\n")
    assert upright_size(tmp_path / "a.pbm") == (20000, 10000)
    (tmp_path / "a.pbm").write_bytes(b"P4\n")
    assert upright_size(tmp_path / "a.pbm") is None


def test_a_number_too_large_for_a_box_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    tree = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 1, "bbox": [10**400, 0, 1, 1]}],
        "categories": [{"id": 1, "name": "pin"}],
    }
    (tmp_path / "annotations" / "all.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"annotation 5: 4 numbers are needed for a box, found \[1000"):
        read_dataset(tmp_path)
