"""The outlines of labelme's files as masks, and what a hostile one could do."""

import base64
import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pangu_cv.data.masks import IGNORE
from pangu_cv.data.readers import outlines_of, read_dataset
from pangu_cv.data.sample import Box
from pangu_cv.errors import DataError
from pangu_cv.verbs.convert import convert
from tests.data.labelme_files import bomb, labelled, mask_of, png, shape
from tests.data.test_readers_annotated import HEIGHT, WIDTH, boxes_of, image


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
    assert "1 files have rectangles, which are filled" in capsys.readouterr().out


def test_what_is_to_be_ignored_is_neither_learnt_nor_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corner = [[8.0, 4.0], [15.9, 4.0], [15.9, 9.9], [8.0, 9.9]]
    larger = [[0.0, 16.0], [39.9, 16.0], [39.9, 19.9], [0.0, 19.9]]
    within = [[3.0, 17.0], [5.9, 17.0], [5.9, 18.9], [3.0, 18.9]]
    root = labelled(
        tmp_path / "own", shape(), shape("__ignore__", corner), shape("__ignore__", larger), shape(points=within)
    )
    labelled(root, shape("__ignore__", corner), at="b")
    mask_HW = mask_of(root)
    assert (mask_HW[4:10, 8:16] == IGNORE).all()
    assert (mask_HW[16:] == IGNORE).all()
    assert (mask_HW == 1).sum() == 200 - 5 * 6
    assert "1 images show nothing but what is to be ignored, and have no mask; first b.jpg" in capsys.readouterr().out


def test_background_is_nothing(tmp_path: Path) -> None:
    hole = [[12.0, 6.0], [15.9, 6.0], [15.9, 7.9], [12.0, 7.9]]
    root = labelled(tmp_path / "own", shape(), shape("_background_", hole))
    labelled(root, shape("_background_", hole), at="b")
    assert boxes_of(read_dataset(root)) == {"a.jpg": (Box("crack", (10, 5, 29.9, 14.9)),), "b.jpg": ()}
    mask_HW = mask_of(root)
    assert not mask_HW[6:8, 12:16].any()
    assert mask_HW.sum() == 200 - 8


def test_points_cost_no_mask_and_make_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tip = shape("tip", [[3, 3]], shape_type="point")
    root = labelled(tmp_path / "own", shape(), tip)
    labelled(root, tip, at="b")
    assert mask_of(root).sum() == 200
    assert {s.path.stem: s.mask is not None for s in read_dataset(tmp_path / "own-masks")} == {"a": True, "b": False}
    assert "2 images have points, which were left out" in capsys.readouterr().out


def test_what_is_transparent_is_outside(tmp_path: Path) -> None:
    inside_hw = np.zeros((8, 9), np.uint8)
    inside_hw[2:5, 3:6] = 255
    stream = io.BytesIO()
    Image.fromarray(np.dstack([inside_hw] * 4)).save(stream, "PNG")
    mask = base64.b64encode(stream.getvalue()).decode()
    drawn = shape(points=[[0, 0], [8, 7]], shape_type="mask", mask=mask)
    assert mask_of(labelled(tmp_path / "own", drawn)).sum() == 9


@pytest.mark.parametrize("kind", ["rotation", "oriented_rectangle", "quadrilateral", "rectangle", None])
def test_four_corners_are_an_outline(tmp_path: Path, kind: str | None) -> None:
    assert mask_of(labelled(tmp_path / "own", shape(shape_type=kind))).sum() == 200


def test_a_line_is_no_outline(tmp_path: Path) -> None:
    root = labelled(tmp_path / "own", shape(shape_type="linestrip"))
    with pytest.raises(DataError, match="no object has an outline"):
        convert(root, tmp_path / "masks", masks=True)
    labelled(root, shape(), shape("edge", shape_type="line"))
    with pytest.raises(DataError, match="no image can be given a mask: 1 images have an object without an outline"):
        convert(root, tmp_path / "masks", masks=True)


def test_a_mask_that_was_dragged_lies_where_labelme_shows_it(tmp_path: Path) -> None:
    points = [[31.7, 11.5], [34.7, 14.5]]
    mask_HW = mask_of(labelled(tmp_path / "own", shape(points=points, shape_type="mask", mask=png(np.ones((4, 4))))))
    assert mask_HW[11:15, 31:35].all()
    assert mask_HW.sum() == 16


def test_a_mask_far_larger_than_its_image_is_cut_before_it_is_followed(tmp_path: Path) -> None:
    whole = shape(points=[[-900, -900], [1099, 1099]], shape_type="mask", mask=png(np.ones((2000, 2000))))
    root = labelled(tmp_path / "own", whole)
    dataset = read_dataset(root)
    tracemalloc.start()
    outlines_of(dataset, root)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2000 * 2000 * 8


@pytest.mark.parametrize(
    "wrong",
    [
        {"points": [[0, 0], [99_999, 99_999]], "shape_type": "mask", "mask": png(np.ones((2, 2)))},
        {"points": [[0, 0], [5, 5]], "shape_type": "mask", "mask": png(np.ones((2, 2)))},
        {"points": [[5, 5], [0, 0]], "shape_type": "mask", "mask": png(np.ones((2, 2)))},
        {"points": [[0, 0], [19_999, 19_999]], "shape_type": "mask", "mask": bomb(20_000)},
        {"points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": png(np.ones((2, 2)), np.uint16)},
        {"points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": "not base64 €"},
        {"points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": base64.b64encode(b"BM no picture").decode()},
        {"points": [[0, 0], [1e7, 1]], "shape_type": "circle"},
        {"points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": png(np.ones((2, 2)), form="JPEG")},
        {"points": [[0, 0], [0, 0]], "shape_type": "circle"},
        {"points": [[1, 0], [1, 1]]},
    ],
)
def test_an_outline_that_is_none_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    root = labelled(tmp_path, shape(**wrong))
    dataset = read_dataset(root)
    with pytest.raises(DataError, match=r"a\.json: the \w+ 'crack' cannot be drawn"):
        outlines_of(dataset, root)
