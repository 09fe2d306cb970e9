import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pangu_cv.data.readers import read_dataset
from pangu_cv.data.sample import Box, Dataset
from pangu_cv.errors import DataError
from pangu_cv.verbs.convert import convert

WIDTH, HEIGHT = 40, 20


def image(path: Path, *, exif_turn: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 150))
    exif = Image.Exif()
    if exif_turn is not None:
        exif[274] = exif_turn
    picture.save(path, exif=exif)
    return path


def boxes_of(dataset: Dataset) -> dict[str, tuple[Box, ...] | None]:
    return {sample.path.name: sample.boxes for sample in dataset}


def coco(folder: Path, *, split: str = "train", place: str = "{split}", **changes: Any) -> dict[str, Any]:
    image(folder / place.format(split=split) / "a.jpg")
    image(folder / place.format(split=split) / "b.jpg")
    tree: dict[str, Any] = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}, {"id": 9, "file_name": "b.jpg"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 5, 20, 10]}],
        "categories": [{"id": 3, "name": "scratch"}],
    }
    tree |= changes
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(tree))
    return tree


@pytest.mark.parametrize("place", ["{split}", "{split}2017", "images/{split}", "images", "."])
def test_coco_finds_its_images_where_people_put_them(tmp_path: Path, place: str) -> None:
    split = "train2017" if "2017" in place else "train"
    coco(tmp_path, split=split, place=place.replace("2017", ""))
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "coco"
    assert boxes_of(dataset) == {"a.jpg": (Box("scratch", (10, 5, 30, 15)),), "b.jpg": ()}
    assert {s.split for s in dataset} == {"train"}
    assert dataset.classes == ("scratch",)


def test_coco_as_roboflow_writes_it(tmp_path: Path) -> None:
    tree = coco(tmp_path / "x")
    image(tmp_path / "y" / "valid" / "a.jpg")
    (tmp_path / "y" / "valid" / "_annotations.coco.json").write_text(json.dumps(tree))
    dataset = read_dataset(tmp_path / "y")
    assert [(s.path.name, s.split) for s in dataset] == [("a.jpg", "val")]
    assert "1 images named in _annotations.coco.json do not exist" in dataset.notes[0]


def test_coco_file_by_its_own_name(tmp_path: Path) -> None:
    coco(tmp_path, split="val")
    dataset = read_dataset(tmp_path / "annotations" / "instances_val.json")
    assert {s.split for s in dataset} == {"val"}


@pytest.mark.parametrize(
    ("bbox", "found", "told"),
    [
        ([30, 10, 30, 30], (30, 10, 40, 20), "reached outside their image and were cut"),
        ([10, 5, 0, 10], None, "without area were left out"),
        ([10, 5, -3, 10], None, "without area were left out"),
        ([10, 5, float("nan"), 10], None, "without area were left out"),
        ([50, 5, 10, 10], None, "outside their image were left out"),
    ],
)
def test_boxes_that_do_not_fit_are_told(
    tmp_path: Path, bbox: list[float], found: tuple[float, ...] | None, told: str
) -> None:
    coco(tmp_path, annotations=[{"id": 1, "image_id": 7, "category_id": 3, "bbox": bbox}])
    dataset = read_dataset(tmp_path)
    assert boxes_of(dataset)["a.jpg"] == (None if found is None else (Box("scratch", found),))  # type: ignore[arg-type]
    assert any("taken as unlabelled" in note for note in dataset.notes) == (found is None)
    assert told in dataset.notes[0]
    assert dataset.notes[0].endswith("first a.jpg")


def test_crowds_are_left_out_and_make_no_image_of_nothing(tmp_path: Path) -> None:
    crowd = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 1, 5, 5], "iscrowd": 1}
    coco(tmp_path / "alone", annotations=[crowd])
    dataset = read_dataset(tmp_path / "alone")
    assert boxes_of(dataset) == {"a.jpg": None, "b.jpg": ()}
    assert dataset.notes[0].startswith("1 crowds were left out; CVAT exports masks of its brush and ellipses as crowds")
    assert dataset.notes[1].startswith("1 images have no annotation that can be used and are taken as unlabelled")
    coco(tmp_path / "beside", annotations=[crowd, crowd | {"iscrowd": 0}])
    dataset = read_dataset(tmp_path / "beside")
    assert boxes_of(dataset) == {"a.jpg": (Box("scratch", (1, 1, 6, 6)),), "b.jpg": ()}
    assert [note.split(";")[0] for note in dataset.notes] == [
        "1 crowds were left out",
        "1 images have no annotation and are taken as showing nothing",
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"annotations": [{"id": 1, "image_id": 7, "category_id": 8, "bbox": [1, 1, 5, 5]}]},
            "category 8 is not among",
        ),
        ({"annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 1, 5]}]}, "4 numbers are needed"),
        ({"annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": "abcd"}]}, "4 numbers are needed"),
        ({"images": [{"id": 7, "file_name": "../../etc/passwd"}]}, "leaves the folder"),
        ({"images": [{"id": 7, "file_name": "/etc/passwd"}]}, "leaves the folder"),
        ({"images": {"id": 1}}, "must be a list"),
        ({"images": [{"id": [1], "file_name": "a.jpg"}]}, "id must be a number or a name"),
        ({"images": [{"id": 7, "file_name": "a.jpg", "width": "48px"}]}, "width and height of a.jpg"),
        ({"categories": [{"id": {}, "name": "x"}]}, "id must be a number or a name"),
        ({"images": [{"id": 7}]}, "has no file_name"),
        ({"images": [{"id": 7, "file_name": "gone.jpg"}]}, "none of the images it names"),
    ],
)
def test_coco_that_cannot_be_read_says_where(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    coco(tmp_path, **changes)
    with pytest.raises(DataError, match=told):
        read_dataset(tmp_path)


def test_json_that_is_no_coco_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_text("{}")
    with pytest.raises(DataError, match="needs images, annotations and categories"):
        read_dataset(tmp_path)
    (tmp_path / "annotations" / "instances_train.json").write_text("[" * 5000)
    with pytest.raises(DataError, match="cannot be read as JSON"):
        read_dataset(tmp_path)


def yolo(folder: Path, rows: str | None, *, table: str = "train: images/train\nnames: [pin, hole]\n") -> Path:
    image(folder / "images" / "train" / "a.jpg")
    if rows is not None:
        (folder / "labels" / "train").mkdir(parents=True)
        (folder / "labels" / "train" / "a.txt").write_text(rows)
    (folder / "data.yaml").write_text(table)
    return folder


def test_yolo_boxes_become_pixels(tmp_path: Path) -> None:
    dataset = read_dataset(yolo(tmp_path, "1 0.5 0.5 0.5 0.5\n0 0.25 0.5 0.1 0.2\n"))
    assert dataset.layout == "yolo"
    first, second = boxes_of(dataset)["a.jpg"] or ()
    assert first == Box("hole", (10, 5, 30, 15))
    assert (second.label, second.xyxy) == ("pin", pytest.approx((8, 8, 12, 12)))
    assert dataset.samples[0].split == "train"


def test_yolo_shares_are_of_the_upright_image(tmp_path: Path) -> None:
    yolo(tmp_path, "0 0.5 0.5 0.5 0.5\n")
    image(tmp_path / "images" / "train" / "a.jpg", exif_turn=6)
    assert boxes_of(read_dataset(tmp_path))["a.jpg"] == (Box("pin", (5, 10, 15, 30)),)


def test_yolo_empty_file_is_background_and_none_is_unlabelled(tmp_path: Path) -> None:
    assert boxes_of(read_dataset(yolo(tmp_path / "empty", "\n"))) == {"a.jpg": ()}
    dataset = read_dataset(yolo(tmp_path / "none", None))
    assert boxes_of(dataset) == {"a.jpg": None}
    assert "1 images have no file of labels" in dataset.notes[0]


@pytest.mark.parametrize(
    "table",
    [
        "path: /home/someone/else\ntrain: images/train\nnames: {0: pin, 1: hole}\n",
        "train: ../images/train\nnames: [pin, hole]\n",
        "path: .\ntrain: [images/train]\nnames: [pin, hole]\n",
    ],
)
def test_yolo_tables_of_other_machines(tmp_path: Path, table: str) -> None:
    assert boxes_of(read_dataset(yolo(tmp_path, "0 0.5 0.5 0.5 0.5", table=table)))["a.jpg"]


def test_yolo_outline_becomes_its_box(tmp_path: Path) -> None:
    dataset = read_dataset(yolo(tmp_path, "0 0.25 0.25 0.75 0.5 0.5 0.75\n"))
    assert boxes_of(dataset)["a.jpg"] == (Box("pin", (10, 5, 30, 15)),)
    assert "outlines" in dataset.notes[0]


@pytest.mark.parametrize("table", ["crack\n\nrust\nnest\n", "\ufeffcrack\r\n\r\nrust\r\nnest\r\n"])
def test_a_blank_line_among_names_keeps_its_number(tmp_path: Path, table: str) -> None:
    yolo(tmp_path, "2 0.5 0.5 0.5 0.5")
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "classes.txt").write_text(table, encoding="utf-8")
    assert read_dataset(tmp_path).classes == ("rust",)


def test_names_in_another_encoding_are_not_torn_apart(tmp_path: Path) -> None:
    yolo(tmp_path / "yolo", "0 0.5 0.5 0.5 0.5")
    (tmp_path / "yolo" / "data.yaml").unlink()
    (tmp_path / "yolo" / "classes.txt").write_bytes("裂纹\n锈蚀\n".encode("gbk"))
    masks(tmp_path / "masks")
    (tmp_path / "masks" / "classes.txt").write_bytes("背景\n裂纹\n".encode("gbk"))
    for folder in ("yolo", "masks"):
        with pytest.raises(DataError, match=r"classes\.txt: byte \d is no UTF-8; save the file as UTF-8"):
            read_dataset(tmp_path / folder)


def test_yolo_without_a_table_has_classes_by_number(tmp_path: Path) -> None:
    yolo(tmp_path, "4 0.5 0.5 0.5 0.5")
    (tmp_path / "data.yaml").unlink()
    assert read_dataset(tmp_path).classes == ("4",)


@pytest.mark.parametrize(
    ("rows", "table", "told"),
    [
        ("5 0.5 0.5 0.5 0.5", "train: images/train\nnames: [pin, hole]\n", r"a\.txt:1: class '5' is not among"),
        ("-1 0.5 0.5 0.5 0.5", "train: images/train\nnames: [pin, hole]\n", "class '-1' is not among"),
        ("0 0.5 0.5 0.5", "train: images/train\nnames: [pin, hole]\n", r"a\.txt:1: 4 numbers are needed"),
        ("0 a b c d", "train: images/train\nnames: [pin, hole]\n", "4 numbers are needed"),
        ("", "train: images/other\nnames: [pin]\n", "'images/other' is no folder below"),
        ("", "train: images/train\nnames: 7\n", "'names' must be a list"),
        ("", "train: images/train\nnames: [[pin, hole]]\n", r"'names' must be a list .* found \{0: \['pin'"),
        ("", "train: images/train\nnames: {.inf: pin}\n", "'names' must be a list"),
        ("", "train: images/train\nnames: [!!timestamp 2024-13-45]\n", "cannot be read as YAML"),
        ("", "pin: &a pin\ntrain: images/train\nnames: [*a]\n", r"data\.yaml: has YAML aliases"),
    ],
)
def test_yolo_that_cannot_be_read_says_where(tmp_path: Path, rows: str, table: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_dataset(yolo(tmp_path, rows, table=table))


@pytest.mark.parametrize("key", ["names", "path", "train"])
def test_yolo_aliases_of_aliases_are_not_unfolded(tmp_path: Path, key: str) -> None:
    lines = [f"a{depth}: &a{depth} [{', '.join([f'*a{depth - 1}'] * 9)}]" for depth in range(1, 40)]
    table = {"train": "images/train", "names": "[pin]"} | {key: "*a39"}
    text = "\n".join(["a0: &a0 [pin]", *lines, *(f"{name}: {value}" for name, value in table.items())])
    with pytest.raises(DataError, match="aliases") as caught:
        read_dataset(yolo(tmp_path, "0 0.5 0.5 0.5 0.5", table=text))
    assert len(str(caught.value)) < 500


def test_yolo_table_runs_no_code(tmp_path: Path) -> None:
    yolo(tmp_path, "", table=f"names: !!python/object/apply:os.mkdir ['{tmp_path}/hacked']\ntrain: images/train\n")
    with pytest.raises(DataError):
        read_dataset(tmp_path / "data.yaml")
    assert not (tmp_path / "hacked").exists()


VOC = (
    "<annotation><size><width>40</width><height>20</height></size><object><name>disc</name><bndbox>"
    "<xmin>10</xmin><ymin>5</ymin><xmax>{x}</xmax><ymax>15</ymax></bndbox></object></annotation>"
)


def voc(folder: Path, text: str = VOC.format(x=30)) -> Path:
    image(folder / "JPEGImages" / "a.jpg")
    image(folder / "JPEGImages" / "b.jpg")
    (folder / "Annotations").mkdir()
    (folder / "Annotations" / "a.xml").write_text(text)
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    (folder / "ImageSets" / "Main" / "test.txt").write_text("b\ngone\n")
    return folder


def test_voc(tmp_path: Path) -> None:
    dataset = read_dataset(voc(tmp_path))
    assert dataset.layout == "voc"
    assert boxes_of(dataset) == {"a.jpg": (Box("disc", (10, 5, 30, 15)),), "b.jpg": None}
    assert [s.split for s in dataset] == ["train", "test"]
    assert any("listed in ImageSets/Main do not exist; first gone" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<annotation>", "is no XML"),
        ("<annotation><object></object></annotation>", "an object has no name"),
        (VOC.format(x="wide"), "4 numbers are needed"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>&b;</annotation>", "defines a document type"),
        ("<?xml version='1.0' encoding='nothing'?><annotation/>", "not in the encoding that it names"),
    ],
)
def test_voc_that_cannot_be_read_says_where(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DataError, match=rf"a\.xml.*{told}"):
        read_dataset(voc(tmp_path, text))


def test_voc_boxes_that_are_all_faulty_make_no_image_of_nothing(tmp_path: Path) -> None:
    dataset = read_dataset(voc(tmp_path, VOC.format(x=10)))
    assert boxes_of(dataset)["a.jpg"] is None
    assert any("1 images have no annotation that can be used" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [('encoding="GB2312"', "gb2312"), ("encoding='gbk'", "gbk"), ('encoding="UTF-8"', "utf-8"), ("", "utf-8-sig")],
)
def test_voc_is_read_in_the_encoding_that_it_names(tmp_path: Path, declared: str, encoding: str) -> None:
    text = f'<?xml version="1.0" {declared}?>\n' + VOC.format(x=30).replace("disc", "裂纹")
    voc(tmp_path)
    (tmp_path / "Annotations" / "a.xml").write_bytes(text.encode(encoding))
    assert read_dataset(tmp_path).classes == ("裂纹",)
    (tmp_path / "Annotations" / "a.xml").write_bytes(text.replace(declared, "").encode("gbk"))
    with pytest.raises(DataError, match=r"a\.xml: is not in the encoding that it names, or UTF-8"):
        read_dataset(tmp_path)


def test_a_hostile_voc_file_in_utf_16_is_refused(tmp_path: Path) -> None:
    text = "<?xml version='1.0' encoding='utf-16'?><!DOCTYPE a [<!ENTITY b 'c'>]><annotation>&b;</annotation>"
    voc(tmp_path)
    (tmp_path / "Annotations" / "a.xml").write_bytes(text.encode("utf-16"))
    with pytest.raises(DataError, match=r"a\.xml"):
        read_dataset(tmp_path)


def masks(folder: Path) -> Path:
    for stem in ("a", "b", "c"):
        image(folder / "images" / f"{stem}.jpg")
    for stem in ("a", "b", "orphan"):
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8)).save(folder / "masks" / f"{stem}.png")
    (folder / "train.txt").write_text("a\nc.jpg\n")
    (folder / "test.txt").write_text("b\n")
    return folder


def test_images_beside_masks(tmp_path: Path) -> None:
    (masks(tmp_path) / "classes.txt").write_text("background\ncrack\n")
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "image_masks"
    assert dataset.mask_classes == ("background", "crack")
    assert [(s.path.stem, s.split, s.mask and s.mask.name) for s in dataset] == [
        ("a", "train", "a.png"),
        ("b", "test", "b.png"),
        ("c", "train", None),
    ]
    assert any("1 images have no mask" in note for note in dataset.notes)
    assert any("1 masks have no image; first orphan.png" in note for note in dataset.notes)


def test_masks_without_names_are_of_a_defect(tmp_path: Path) -> None:
    assert read_dataset(masks(tmp_path)).mask_classes == ("background", "defect")


@pytest.mark.parametrize("names", ["one\n", "one\none\n"])
def test_names_of_masks_must_differ(tmp_path: Path, names: str) -> None:
    (masks(tmp_path) / "classes.txt").write_text(names)
    with pytest.raises(DataError, match="2 to 255 different names"):
        read_dataset(tmp_path)


def test_what_is_written_as_coco_is_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc(tmp_path / "voc")
    (tmp_path / "voc" / "Annotations" / "b.xml").write_text("<annotation></annotation>")
    convert(tmp_path / "voc", tmp_path / "coco")
    assert "wrote 2 images with 1 boxes" in capsys.readouterr().out
    first, second = read_dataset(tmp_path / "voc"), read_dataset(tmp_path / "coco")
    assert second.layout == "coco"
    assert boxes_of(second) == boxes_of(first)
    assert {s.path.name: s.split for s in second} == {"a.jpg": "train", "b.jpg": "test"}
    assert second.notes == ("1 images have no annotation and are taken as showing nothing; first b.jpg",)


def test_a_dataset_without_boxes_is_not_written(tmp_path: Path) -> None:
    image(tmp_path / "data" / "a" / "1.jpg")
    with pytest.raises(DataError, match="no image has boxes"):
        convert(tmp_path / "data", tmp_path / "coco")
    assert not (tmp_path / "coco").exists()
