"""labelme's files: boxes, outlines as masks, and what a hostile file could do."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pangu_cv.data.masks import IGNORE, read_class_mask
from pangu_cv.data.readers import outlines_of, read_dataset, recognise
from pangu_cv.data.sample import Box, Dataset
from pangu_cv.errors import DataError
from pangu_cv.verbs.convert import convert
from tests.data.test_readers_annotated import HEIGHT, WIDTH, boxes_of, image

SQUARE = [[10.0, 5.0], [29.9, 5.0], [29.9, 14.9], [10.0, 14.9]]


def shape(label: str = "crack", points: Any = SQUARE, **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": "polygon", "flags": {}} | more


def drawing(*shapes: dict[str, Any], **more: Any) -> dict[str, Any]:
    about = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": "a.jpg", "imageData": None}
    return about | {"imageHeight": HEIGHT, "imageWidth": WIDTH} | more


def labelled(root: Path, *shapes: dict[str, Any], at: str = "a", **more: Any) -> Path:
    image(root / f"{at}.jpg")
    (root / f"{at}.json").write_text(json.dumps(drawing(*shapes, **more)), encoding="utf-8")
    return root


def png(inside_hw: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(inside_hw.astype(np.uint8) * 255).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def mask_of(root: Path, *, classes: int = 2) -> np.ndarray:
    out = root.parent / f"{root.name}-masks"
    convert(root, out, masks=True)
    (mask,) = [s.mask for s in read_dataset(out) if s.path.stem == "a"]
    assert mask is not None
    return read_class_mask(mask, classes=classes)


def only(dataset: Dataset) -> tuple[Box, ...] | None:
    return boxes_of(dataset)["a.jpg"]


def test_boxes_are_around_shapes(tmp_path: Path) -> None:
    labelled(tmp_path, shape(), shape("pin", [[30, 2], [20, 1]], shape_type="rectangle"))
    image(tmp_path / "b.jpg")
    labelled(tmp_path, at="c")
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "labelme"
    assert boxes_of(dataset) == {
        "a.jpg": (Box("crack", (10, 5, 29.9, 14.9)), Box("pin", (20, 1, 30, 2))),
        "b.jpg": None,
        "c.jpg": (),
    }
    assert dataset.notes == (
        "1 images have no file of shapes and are taken as unlabelled (a file without shapes: no object); first b.jpg",
    )


@pytest.mark.parametrize(
    ("kind", "points", "box"),
    [
        ("circle", [[20, 10], [23, 14]], (15, 5, 25, 15)),
        ("linestrip", [[3, 4], [9, 2], [12, 8]], (3, 2, 12, 8)),
        ("rotation", [[5, 5], [15, 3], [16, 8], [6, 10]], (5, 3, 16, 10)),
        ("mask", [[4, 3], [6, 4]], (4, 3, 7, 5)),
        ("cuboid", [[4, 3], [6, 4], [9, 9]], (4, 3, 9, 9)),
    ],
)
def test_every_kind_has_its_box(tmp_path: Path, kind: str, points: Any, box: tuple[float, ...]) -> None:
    labelled(tmp_path, shape(points=points, shape_type=kind, mask=png(np.ones((2, 3)))))
    assert only(read_dataset(tmp_path)) == (Box("crack", box),)


def test_parts_of_a_group_are_one_object(tmp_path: Path) -> None:
    parts = [shape(points=[[x, 1], [x + 2, 1], [x + 2, 4]], group_id=1) for x in (3, 20)]
    labelled(tmp_path, *parts, shape("pin", [[7, 7], [9, 7], [9, 9]], group_id=1), shape(group_id=2))
    boxes = only(read_dataset(tmp_path))
    assert boxes == (Box("crack", (3, 1, 22, 4)), Box("pin", (7, 7, 9, 9)), Box("crack", (10, 5, 29.9, 14.9)))


def test_points_and_ignored_regions_are_no_objects(tmp_path: Path) -> None:
    labelled(tmp_path, shape("tip", [[3, 3]], shape_type="point"), shape("__ignore__"), shape())
    labelled(tmp_path, shape("tip", [[3, 3]], shape_type="point"), at="b")
    dataset = read_dataset(tmp_path)
    assert boxes_of(dataset) == {"a.jpg": (Box("crack", (10, 5, 29.9, 14.9)),), "b.jpg": None}
    assert any(note.startswith("2 points were left out") for note in dataset.notes)
    assert any(note.startswith("1 regions '__ignore__' were left out") for note in dataset.notes)


@pytest.mark.parametrize(
    ("json_at", "image_at", "named"),
    [
        ("labels/x.json", "pictures/a.jpg", "..\\pictures\\a.jpg"),
        ("labels/x.json", "pictures/a.jpg", "D:\\plant\\2024\\a.jpg"),
        ("annotations/a.json", "images/a.jpg", "a.jpg"),
        ("train/batch1/a.json", "train/batch1/a.jpg", ""),
        ("deep/a.json", "deep/a.jpg", "../../../../etc/hostname"),
    ],
)
def test_images_are_found_where_people_put_them(tmp_path: Path, json_at: str, image_at: str, named: str) -> None:
    image(tmp_path / image_at)
    (tmp_path / json_at).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / json_at).write_text(json.dumps(drawing(shape(), imagePath=named)))
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "labelme"
    assert [(s.path, len(s.boxes or ()), s.split) for s in dataset] == [
        (tmp_path / image_at, 1, "train" if "train" in image_at else None)
    ]


def test_an_image_outside_the_folder_is_not_taken(tmp_path: Path) -> None:
    image(tmp_path / "secret.jpg")
    root = labelled(tmp_path / "set", shape())
    (root / "x.json").write_text(json.dumps(drawing(shape(), imagePath="../secret.jpg")))
    dataset = read_dataset(root)
    assert [s.path.name for s in dataset] == ["a.jpg"]
    assert dataset.notes == ("1 files of shapes have no image (what they hold as imageData is not read); first x.json",)


def test_a_pair_that_was_renamed_stays_one(tmp_path: Path) -> None:
    labelled(tmp_path, shape("pin"))
    labelled(tmp_path, shape("crack"), at="b")  # its imagePath still says a.jpg
    assert [[box.label for box in s.boxes or ()] for s in read_dataset(tmp_path)] == [["pin"], ["crack"]]
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.png")
    labelled(tmp_path, shape("pin"), imagePath="a.png")
    assert {s.path.name: s.boxes is not None for s in read_dataset(tmp_path)} == {
        "a.jpg": False,
        "a.png": True,
        "b.jpg": True,
    }


def test_two_files_for_an_image_are_refused(tmp_path: Path) -> None:
    labelled(tmp_path, shape())
    (tmp_path / "copy.json").write_text(json.dumps(drawing(shape(), imagePath="a.jpg")))
    with pytest.raises(DataError, match=r"copy\.json: its image 'a\.jpg' has another file of shapes, .*a\.json; keep"):
        read_dataset(tmp_path)


def test_other_layouts_are_not_taken_for_it(tmp_path: Path) -> None:
    for name in ("pin", "hole"):
        image(tmp_path / "classes" / name / "a.jpg")
        (tmp_path / "classes" / name / "a.json").write_text('{"camera": 3, "shapes_seen": 2}')
    assert recognise(tmp_path / "classes") == "class_folders"
    labelled(tmp_path / "masked" / "images", shape())
    image(tmp_path / "masked" / "masks" / "a.png")
    assert recognise(tmp_path / "masked") == "image_masks"


def test_shapes_become_masks(tmp_path: Path) -> None:
    root = labelled(tmp_path / "own", shape(), shape("pin", [[12.2, 6.2], [15.2, 6.2], [15.2, 8.2], [12.2, 8.2]]))
    labelled(root, shape("crack", [[3, 3], [9, 9]], shape_type="line"), at="b")
    image(root / "c.jpg")
    labelled(root, at="d")
    mask_HW = mask_of(root, classes=3)
    assert (mask_HW == 1).sum() == 200 - 6
    assert (mask_HW[6:8, 12:15] == 2).all()
    made = read_dataset(tmp_path / "own-masks")
    assert made.mask_classes == ("background", "crack", "pin")
    assert {s.path.stem: s.mask is not None for s in made} == {"a": True, "b": False, "c": False, "d": True}


def test_a_mask_within_the_file_is_drawn_to_the_pixel(tmp_path: Path) -> None:
    inside_hw = np.random.default_rng(0).random((7, 9)) > 0.5
    points = [[31.0, 11.0], [39.0, 17.0]]
    mask_HW = mask_of(labelled(tmp_path / "own", shape(points=points, shape_type="mask", mask=png(inside_hw))))
    wanted_HW = np.zeros((HEIGHT, WIDTH), bool)
    wanted_HW[11:18, 31:40] = inside_hw
    assert np.array_equal(mask_HW == 1, wanted_HW)


def test_a_mask_that_reaches_outside_is_cut(tmp_path: Path) -> None:
    points = [[-2, -3], [WIDTH + 1, 1]]
    whole = shape(points=points, shape_type="mask", mask=png(np.ones((5, WIDTH + 4))))
    mask_HW = mask_of(labelled(tmp_path / "own", whole))
    assert (mask_HW[:2] == 1).all()
    assert mask_HW.sum() == 2 * WIDTH


def test_a_circle_has_its_area(tmp_path: Path) -> None:
    mask_HW = mask_of(labelled(tmp_path / "own", shape(points=[[20, 10], [28, 10]], shape_type="circle")))
    assert mask_HW.sum() == 208  # π·64 = 201; so many middles lie within
    assert mask_HW[10, 27] == 1
    assert mask_HW[4, 13] == 0


def test_rectangles_are_filled_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    box = [[30.1, 14.1], [10.1, 4.1]]
    mask_HW = mask_of(labelled(tmp_path / "own", shape(points=box, shape_type="rectangle")))
    assert mask_HW.sum() == 200
    assert "1 rectangles are filled" in capsys.readouterr().out


def test_what_is_to_be_ignored_is_neither_learnt_nor_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corner = [[8.0, 4.0], [15.9, 4.0], [15.9, 9.9], [8.0, 9.9]]
    root = labelled(tmp_path / "own", shape(), shape("__ignore__", corner))
    labelled(root, shape("__ignore__", corner), at="b")
    mask_HW = mask_of(root)
    assert (mask_HW[4:10, 8:16] == IGNORE).all()
    assert (mask_HW == 1).sum() == 200 - 5 * 6
    assert "1 images show nothing but what is to be ignored, and have no mask; first b.jpg" in capsys.readouterr().out


def test_shapes_of_another_size_are_not_believed(tmp_path: Path) -> None:
    root = labelled(tmp_path / "own", shape(), imageWidth=80, imageHeight=40)
    labelled(root, shape(), at="b", imageWidth=None, imageHeight=None)
    dataset = read_dataset(root)
    assert only(dataset) is None
    assert [reason for _, reason in dataset.box_faults] == ["annotated at 80 x 40, upright it has 40 x 20 pixels"]
    convert(root, tmp_path / "masks", masks=True)
    assert {s.path.stem: s.mask is not None for s in read_dataset(tmp_path / "masks")} == {"a": False, "b": True}


def test_a_turned_photo_is_labelled_upright(tmp_path: Path) -> None:
    root = labelled(tmp_path / "own", shape(points=[[2, 20], [9.9, 20], [9.9, 35.9], [2, 35.9]]), imageWidth=HEIGHT)
    (root / "a.json").write_text(
        json.dumps(drawing(shape(points=[[2, 20], [9.9, 20], [9.9, 35.9]]), imageWidth=HEIGHT, imageHeight=WIDTH))
    )
    image(root / "a.jpg", exif_turn=6)
    assert only(read_dataset(root)) == (Box("crack", (2, 20, 9.9, 35.9)),)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"label": ""}, "has no label"),
        ({"points": []}, r"'points' must be a list of \[x, y\]"),
        ({"points": [[1, 2, 3]]}, "2 numbers are needed"),
        ({"points": [["a", 2]]}, "2 numbers are needed"),
        ({"points": [[1, 2]], "shape_type": "circle"}, "a circle has two points, found 1"),
        ({"points": [[1, 2], [3, 4]], "shape_type": "mask"}, "a mask needs its picture as text"),
    ],
)
def test_a_malformed_shape_is_named(tmp_path: Path, wrong: dict[str, Any], told: str) -> None:
    labelled(tmp_path, shape(), shape(**wrong))
    with pytest.raises(DataError, match=rf"a\.json: shape 1.*{told}"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("text", ['{"shapes": [', '{"shapes": 7}', '{"shapes": [7]}', '{"imagePath": "a.jpg"}'])
def test_a_malformed_file_is_named(tmp_path: Path, text: str) -> None:
    image(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json: ('shapes' must be|cannot be read as JSON)"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"points": [[0, 0], [99_999, 99_999]], "shape_type": "mask", "mask": png(np.ones((2, 2)))},
        {"points": [[0, 0], [5, 5]], "shape_type": "mask", "mask": png(np.ones((2, 2)))},
        {"points": [[5, 5], [0, 0]], "shape_type": "mask", "mask": png(np.ones((2, 2)))},
        {"points": [[0, 0], [float("inf"), 1]], "shape_type": "mask", "mask": png(np.ones((2, 2)))},
        {"points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": "not base64 €"},
        {"points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": base64.b64encode(b"BM no picture").decode()},
        {"points": [[0, 0], [1e300, 1]], "shape_type": "circle"},
        {"points": [[0, 0], [0, 0]], "shape_type": "circle"},
        {"points": [[float("nan"), 0], [1, 1], [2, 0]]},
        {"points": [[1, 0], [1, 1]]},
    ],
)
def test_an_outline_that_is_none_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    root = labelled(tmp_path, shape(**wrong))
    dataset = read_dataset(root)
    with pytest.raises(DataError, match=r"a\.json: the \w+ 'crack' cannot be drawn"):
        outlines_of(dataset, root)


def test_boxes_of_it_become_coco(tmp_path: Path) -> None:
    convert(labelled(tmp_path / "own", shape()), tmp_path / "coco")
    again = read_dataset(tmp_path / "coco")
    assert again.layout == "coco"
    assert [box.label for box in only(again) or ()] == ["crack"]
