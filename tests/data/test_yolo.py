from pathlib import Path

import pytest
from PIL import Image

from pangu_cv.data.readers import read_dataset
from pangu_cv.data.sample import Box, Dataset
from pangu_cv.errors import DataError

ROW = "0 0.5 0.5 0.5 0.5\n"
BOX = (10.0, 5.0, 30.0, 15.0)
NAMES = "names: [pin, hole]\n"


def yolo(root: Path, table: str, *, images: str = "train/a.jpg val/b.jpg", rows: str = ROW) -> Path:
    for name in images.split():
        image = root / "images" / name
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20), (90, 120, 150)).save(image)
        labels = (root / "labels" / name).with_suffix(".txt")
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text(rows, encoding="utf-8")
    (root / "data.yaml").write_text(table, encoding="utf-8")
    return root


def splits(dataset: Dataset) -> dict[str, str | None]:
    return {sample.path.name: sample.split for sample in dataset}


@pytest.mark.parametrize(
    "table",
    [
        "train: images/train\nval: images/train\n",
        "train: images\nval: images/val\n",
        "train: images/train\ntest: [images/val, images/train]\n",
        "train: images/train\nval: val.txt\n",
    ],
)
def test_an_image_in_two_splits_is_refused(tmp_path: Path, table: str) -> None:
    yolo(tmp_path, table + NAMES)
    (tmp_path / "val.txt").write_text("images/val/b.jpg\nimages/train/a.jpg\n")
    with pytest.raises(DataError, match=r"\.jpg: is in (val|test), but in train too; keep it in one of them"):
        read_dataset(tmp_path)


def test_an_image_that_a_link_brings_into_two_splits_is_refused(tmp_path: Path) -> None:
    yolo(tmp_path, "train: images/train\nval: images/val\n" + NAMES)
    (tmp_path / "images" / "val" / "c.jpg").symlink_to(tmp_path / "images" / "train" / "a.jpg")
    with pytest.raises(DataError, match=r"c\.jpg: is in val, but in train too"):
        read_dataset(tmp_path)


def test_an_image_named_twice_in_one_split_is_one(tmp_path: Path) -> None:
    dataset = read_dataset(yolo(tmp_path, "train: [images, images/train]\n" + NAMES))
    assert [sample.path.name for sample in dataset] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("key", ["val", "valid", "validation"])
def test_splits_are_known_by_their_other_names(tmp_path: Path, key: str) -> None:
    dataset = read_dataset(yolo(tmp_path, f"train: images/train\n{key}: images/val\ntest:\n" + NAMES))
    assert splits(dataset) == {"a.jpg": "train", "b.jpg": "val"}


@pytest.mark.parametrize("nothing", ["", "null", "~"])
def test_a_split_of_nothing_is_none(tmp_path: Path, nothing: str) -> None:
    dataset = read_dataset(yolo(tmp_path, f"path: {nothing}\ntrain: images/train\nval: {nothing}\n" + NAMES))
    assert splits(dataset) == {"a.jpg": "train"}


@pytest.mark.parametrize("line", ["{}", "./{}", "data/{}", "../{}"])
@pytest.mark.parametrize("base", [".", "set"])
def test_a_list_of_images_is_read(tmp_path: Path, base: str, line: str) -> None:
    yolo(tmp_path / base, NAMES)
    (tmp_path / "data.yaml").write_text(f"path: ./{base}\ntrain: train.txt\nval: images/val\n" + NAMES)
    lines = ("images/train/a.jpg", "images/train/gone.jpg")
    text = "".join(f"{line.format(name)}\r\n" for name in lines) + "\r\n"
    (tmp_path / base / "train.txt").write_bytes(text.encode("utf-8-sig"))
    dataset = read_dataset(tmp_path / "data.yaml")
    assert splits(dataset) == {"a.jpg": "train", "b.jpg": "val"}
    assert all(sample.boxes == (Box("pin", BOX),) for sample in dataset)
    assert dataset.notes == (
        f"1 images listed in train.txt do not exist and were left out; first {line.format('images/train/gone.jpg')}",
    )


def test_a_list_may_begin_where_it_lies(tmp_path: Path) -> None:
    yolo(tmp_path, "train: images/train.txt\n" + NAMES)
    (tmp_path / "images" / "train.txt").write_text("./train/a.jpg\n")
    assert splits(read_dataset(tmp_path)) == {"a.jpg": "train"}


def test_a_list_may_name_files_from_the_top(tmp_path: Path) -> None:
    yolo(tmp_path, "train: train.txt\n" + NAMES)
    (tmp_path / "train.txt").write_text(f"{tmp_path.resolve()}/images/train/a.jpg\n")
    assert splits(read_dataset(tmp_path)) == {"a.jpg": "train"}


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("/etc/a.jpg", r"train\.txt: '/etc/a\.jpg' leaves the folder"),
        ("images/../../a.jpg", "leaves the folder"),
        ("images/train/gone.jpg", r"no image .*\(1 images listed in train\.txt do not exist"),
    ],
)
def test_a_list_that_names_no_image_of_the_dataset_is_refused(tmp_path: Path, lines: str, told: str) -> None:
    yolo(tmp_path, "train: train.txt\n" + NAMES)
    (tmp_path / "train.txt").write_text(lines)
    with pytest.raises(DataError, match=told):
        read_dataset(tmp_path)


def test_names_are_text_as_it_is_written(tmp_path: Path) -> None:
    table = "train: images/train\nnames: [no, yes, 1.10, 2024-02-01, 0x1f]\n"
    rows = "".join(f"{number} 0.5 0.5 0.5 0.5\n" for number in range(5))
    dataset = read_dataset(yolo(tmp_path, table, rows=rows, images="train/a.jpg"))
    assert [box.label for box in dataset.samples[0].boxes or ()] == ["no", "yes", "1.10", "2024-02-01", "0x1f"]


def test_names_may_lie_beside_the_labels(tmp_path: Path) -> None:
    yolo(tmp_path, "", rows="\ufeff1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").unlink()
    assert read_dataset(tmp_path).classes == ("1",)  # no name, and no byte order mark
    (tmp_path / "labels" / "classes.txt").write_text("pin\nhole\n")
    assert read_dataset(tmp_path).classes == ("hole",)
    (tmp_path / "classes.txt").write_text("crack\nrust\n")
    assert read_dataset(tmp_path).classes == ("rust",)


@pytest.mark.parametrize(("shape", "points"), [("[2, 3]", "0.1 0.1 2 0.9 0.9 1"), ("[3, 2]", "0 0 0 0 0.9 0.9")])
def test_of_a_pose_the_box_is_taken(tmp_path: Path, shape: str, points: str) -> None:
    table = f"train: images/train\nkpt_shape: {shape}\n" + NAMES
    dataset = read_dataset(yolo(tmp_path, table, rows=f"1 0.5 0.5 0.5 0.5 {points}\n", images="train/a.jpg"))
    assert dataset.samples[0].boxes == (Box("hole", BOX),)
    assert dataset.notes == (f"1 poses were replaced by their box; first {tmp_path}/labels/train/a.txt:1",)


@pytest.mark.parametrize(
    ("shape", "rows", "told"),
    [
        ("[2, 3]", ROW, r"a\.txt:1: 4 numbers found; a box is 4, and kpt_shape says that 6 for its key points follow"),
        ("[2, 3]", "0 0.1 0.1 0.9 0.1 0.9 0.9\n", "6 numbers found"),
        ("[2, 2]", "0 0.5 0.5 0.5 pin 0 0 0 0\n", "4 numbers are needed for a box"),
        ("[2, 4]", ROW, r"data\.yaml: kpt_shape: \['2', '4'\] found; allowed are a number of points, and 2 or 3"),
        ("[0, 3]", ROW, "kpt_shape: .* found"),
        ("17", ROW, "kpt_shape: 17 found"),
        ("{a: b}", ROW, "kpt_shape: .* found"),
    ],
)
def test_poses_that_do_not_fit_their_shape_are_refused(tmp_path: Path, shape: str, rows: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_dataset(yolo(tmp_path, f"train: images/train\nkpt_shape: {shape}\n" + NAMES, rows=rows))


def test_an_image_of_faulty_boxes_alone_is_unlabelled(tmp_path: Path) -> None:
    dataset = read_dataset(yolo(tmp_path, "train: images/train\n" + NAMES, rows="0 0.5 0.5 0 0.5\n"))
    assert dataset.samples[0].boxes is None
    assert dataset.notes[-1].startswith("1 images have no annotation that can be used")
    (tmp_path / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 0 0.5\n" + ROW)
    assert read_dataset(tmp_path).samples[0].boxes == (Box("pin", BOX),)


def test_boxes_of_an_image_above_the_limit_of_decoding_are_kept(tmp_path: Path) -> None:
    yolo(tmp_path, "train: images/train\n" + NAMES, images="train/a.jpg train/b.jpg")
    (tmp_path / "images" / "train" / "a.jpg").write_bytes(b"P4\n20000 10000\n")
    (tmp_path / "images" / "train" / "b.jpg").write_bytes(b"torn")
    first, second = read_dataset(tmp_path)
    assert first.boxes == (Box("pin", (5000, 2500, 15000, 7500)),)
    assert second.boxes is None
    assert read_dataset(tmp_path).notes == (
        "1 images are of a size that cannot be read and are taken as unlabelled; first images/train/b.jpg",
    )
