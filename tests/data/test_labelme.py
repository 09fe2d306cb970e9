"""labelme's files: boxes, and what a malformed one is told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pangu_cv.data.readers import outlines_of, read_dataset
from pangu_cv.data.sample import Box
from pangu_cv.errors import DataError
from pangu_cv.verbs.convert import convert
from tests.data.labelme_files import drawing, labelled, only, png, shape
from tests.data.test_readers_annotated import HEIGHT, WIDTH, boxes_of, image


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


def test_flags_do_not_say_that_nothing_is_there(tmp_path: Path) -> None:
    root = labelled(tmp_path / "own", flags={"good": False, "bad": True})
    labelled(root, shape(), at="b", flags={"bad": True})
    labelled(root, at="c", flags={"good": False})
    dataset = read_dataset(root)
    assert {s.path.stem: s.boxes is not None for s in dataset} == {"a": False, "b": True, "c": True}
    assert any(note.startswith("1 files have a flag and no shapes") for note in dataset.notes)
    assert {path.stem for path in outlines_of(dataset, root).by_image} == {"b", "c"}


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


def test_a_group_is_a_number_or_a_name(tmp_path: Path) -> None:
    parts = [shape(points=[[x, 1], [x + 2, 1], [x + 2, 4]]) for x in (3, 20)]
    for nothing in (None, "", [], {}, False):
        labelled(tmp_path, *({**part, "group_id": nothing} for part in parts))
        assert len(only(read_dataset(tmp_path)) or ()) == 2
    for group in (0, "b", 1.0):
        labelled(tmp_path, *({**part, "group_id": group} for part in reversed(parts)))
        assert only(read_dataset(tmp_path)) == (Box("crack", (3, 1, 22, 4)),)


def test_labels_that_are_numbers_are_classes(tmp_path: Path) -> None:
    labelled(tmp_path, shape(0), shape(" 1 "))  # type: ignore[arg-type]
    assert read_dataset(tmp_path).classes == ("0", "1")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"label": " "}, "a label is needed"),
        ({"label": ["a"]}, "a label is needed"),
        ({"points": [[float("nan"), 2], [3, 4]]}, "its points are no numbers of pixels"),
        ({"points": [[1, float("inf")], [3, 4]]}, "its points are no numbers of pixels"),
        ({"points": [[1e300, 0], [1e300, 0]]}, "its points are no numbers of pixels"),
        ({"points": {"x": 1}}, "must be a list"),
        ({"points": [7]}, "must be a list"),
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


@pytest.mark.parametrize("text", ['{"shapes": [{"label"', '{"shapes": [{}, 7]}', '{"shapes": [], "shapes": 7}'])
def test_a_malformed_file_is_named(tmp_path: Path, text: str) -> None:
    image(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json: ('shapes' must be|cannot be read as JSON)"):
        read_dataset(tmp_path)


def test_boxes_of_it_become_coco(tmp_path: Path) -> None:
    convert(labelled(tmp_path / "own", shape()), tmp_path / "coco")
    again = read_dataset(tmp_path / "coco")
    assert again.layout == "coco"
    assert [box.label for box in only(again) or ()] == ["crack"]
