"""What labelling tools write and no reader reads: told, and not taken for classes of images."""

from pathlib import Path

import pytest
from PIL import Image

from pangu_cv.data.readers import read_dataset, read_images, recognise
from pangu_cv.errors import DataError

VOC = "\ufeff<annotation>\n\t<folder>batch1</folder><object><name>pin</name></object></annotation>"
YOLO = "0 0.5 0.5 0.25 1e-05\n"


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".jpg"):
            Image.new("RGB", (4, 4)).save(root / name)
        else:
            (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("files", "where"),
    [
        ({"batch1/a.jpg": "", "batch1/a.xml": VOC, "batch2/b.jpg": ""}, "batch1/a.xml"),
        ({"batch1/a.jpg": "", "batch2/b.jpg": "", "batch2/b.txt": YOLO, "batch2/a.txt": ""}, "batch2/b.txt"),
        ({"train/batch1/a.jpg": "", "train/batch1/a.TXT": YOLO, "val/batch1/b.jpg": ""}, "train/batch1/a.TXT"),
        ({"train/a.jpg": "", "train/a.txt": YOLO}, "train/a.txt"),
        ({"a.jpg": "", "a.xml": VOC}, "a.xml"),
        ({"obj.names": "pin", "obj_train_data/a.jpg": "", "obj_train_data/a.txt": ""}, "obj.names"),
        ({"meta.json": "{}", "ds0/img/a.jpg": "", "ds0/ann/a.jpg.json": "{}"}, "ds0/ann"),
        ({"batch1/Images/a.jpg": "", "batch1/Labels/a.txt": ""}, "batch1/Labels"),
        ({"annotations.xml": "<annotations/>", "images/a.jpg": ""}, "annotations.xml"),
    ],
)
def test_boxes_of_a_tool_are_told(tmp_path: Path, files: dict[str, str], where: str) -> None:
    root = written(tmp_path, files)
    with pytest.raises(DataError, match=rf"no layout recognised.* '{where}' looks like boxes.*export them as COCO"):
        read_dataset(root)
    assert read_images(root).layout == "images"


def test_folders_that_are_named_as_classes_are_read_as_such(tmp_path: Path) -> None:
    root = written(tmp_path, {"batch1/a.jpg": "", "batch1/a.xml": VOC})
    assert read_dataset(root, layout="class_folders").classes == ("batch1",)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pin/a.txt", "a pin without its head"),
        ("pin/a.txt", "3 12.5 80 0.5 0.25"),
        ("pin/a.txt", ""),
        ("pin/notes.txt", YOLO),
        ("pin/a.json", '{"camera": 3, "exposure_us": 800}'),
        ("pin/a.xml", "<shot camera='3'/>"),
        ("pin/images/a.jpg", ""),
        ("meta.json", "{}"),
    ],
)
def test_what_else_lies_beside_images_leaves_them_classes(tmp_path: Path, name: str, text: str) -> None:
    assert recognise(written(tmp_path, {"pin/a.jpg": "", "hole/b.jpg": "", name: text})) == "class_folders"
