import json
from itertools import pairwise

import numpy as np
import pytest

from pangu_runtime.errors import DataError
from pangu_runtime.tiles import Tiling, run_tiled
from tests.runtime import tile_vectors

VECTORS = json.loads(tile_vectors.PATH.read_text(encoding="utf-8"))
TILING = Tiling(64, 0.25)
OBJECTS = [(10, 10, 30, 30), (50, 12, 80, 34), (100, 90, 130, 120), (60, 60, 68, 68), (150, 3, 158, 140)]


def scene(height: int = 150, width: int = 170) -> np.ndarray:
    """White rectangles on black."""
    image = np.zeros((height, width, 3), np.uint8)
    for x0, y0, x1, y1 in OBJECTS:
        image[y0:y1, x0:x1] = 255
    return image


def finds_rectangles(images: np.ndarray) -> dict[str, np.ndarray]:
    """A perfect detector: the bounding box of every connected white rectangle, in room for eight."""
    import cv2

    _, _, stats, _ = cv2.connectedComponentsWithStats((images[0, ..., 0] > 0).astype(np.uint8))
    found = [(x, y, x + w, y + h) for x, y, w, h, _ in stats[1:]]
    boxes, scores = np.zeros((1, 8, 4), np.float32), np.zeros((1, 8), np.float32)
    for number, box in enumerate(found):
        boxes[0, number], scores[0, number] = box, 0.9
    return {
        "boxes_xyxy": boxes,
        "scores": scores,
        "labels": np.zeros((1, 8), np.int64),
        "count": np.array([len(found)]),
        "threshold_applied": np.array([0.5], np.float32),
    }


def says_white(images: np.ndarray) -> dict[str, np.ndarray]:
    mask = (images[..., 0] > 0).astype(np.uint8)
    return {"mask": mask, "confidence": np.full(mask.shape, 0.8, np.float32)}


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 64), (150, 170), (1000, 333), (20, 500)])
def test_tiles_cover_everything_and_overlap_enough(height: int, width: int) -> None:
    seen = np.zeros((height, width), int)
    windows = TILING.windows(height, width)
    for x0, y0, x1, y1 in windows:
        assert (x1 - x0, y1 - y0) == (min(64, width), min(64, height))
        seen[y0:y1, x0:x1] += 1
    assert seen.min() >= 1
    starts = sorted({x0 for x0, *_ in windows})
    assert all(b - a <= 48 for a, b in pairwise(starts))


def test_a_small_image_is_one_call() -> None:
    calls = []
    run_tiled(lambda image: calls.append(image.shape) or says_white(image), np.zeros((1, 60, 50, 3), np.uint8), TILING)
    assert calls == [(1, 60, 50, 3)]


def test_boxes_of_all_tiles_become_those_of_the_image() -> None:
    found = run_tiled(finds_rectangles, scene()[None], TILING)
    count = int(found["count"][0])
    boxes = sorted(tuple(int(v) for v in box) for box in found["boxes_xyxy"][0, :count])
    whole = sorted(OBJECTS[:4])
    assert [box for box in boxes if box in whole] == whole  # what fits into a tile is found once and whole
    rest = [box for box in boxes if box not in whole]
    assert all(box[0] == 150 and box[2] == 158 for box in rest)  # what is longer than a tile stays in pieces
    assert len(rest) >= 2


def test_a_poor_box_does_not_delete_an_object_longer_than_a_tile() -> None:
    """Four pieces of 0.95, and in each a box of 0.02 that touches no edge."""
    length, (start, end) = 170, (10, 160)
    parts = []
    for x0, _, x1, _ in TILING.windows(64, length):
        piece = (max(start - x0, 0), 20, min(end, x1) - x0, 40, 0, 0.95)
        parts.append(tile_vectors.outputs([piece, (30, 25, 36, 33, 0, 0.02)], 4))
    found = tile_vectors.merge(TILING, 64, length, parts)
    assert int(found["count"][0]) == 4
    assert found["scores"][0].tolist() == pytest.approx([0.95] * 4)


@pytest.mark.parametrize(
    ("name", "scores"),
    [
        ("a poor box in a long one", [0.95, 0.9]),
        ("a good box in a long one", [0.95, 0.9, 0.9]),
        ("whole, of half the score", [0.5]),
        ("whole, of less than half", [0.45]),
        ("whole, but rejected", [0.6]),
        ("both rejected", [0.3]),
    ],
)
def test_a_whole_box_replaces_a_cut_one_that_is_part_of_it_and_hardly_better(name: str, scores: list[float]) -> None:
    parts = [tile_vectors.outputs(rows, 3) for rows in tile_vectors.WHOLE_AND_CUT[name]]
    assert tile_vectors.merge(TILING, 64, 112, parts)["scores"][0].tolist() == pytest.approx(scores)


def test_masks_of_all_tiles_become_that_of_the_image() -> None:
    image = scene()
    found = run_tiled(says_white, image[None], TILING)
    assert np.array_equal(found["mask"][0], (image[..., 0] > 0).astype(np.uint8))
    assert found["confidence"].min() == np.float32(0.8)


def test_in_overlaps_the_nearer_middle_decides() -> None:
    calls = iter(range(100))

    def numbered(images: np.ndarray) -> dict[str, np.ndarray]:
        value = next(calls)
        return {"mask": np.full(images.shape[:3], value, np.uint8), "confidence": np.ones(images.shape[:3], np.float32)}

    mask = run_tiled(numbered, np.zeros((1, 64, 112, 3), np.uint8), TILING)["mask"][0]
    assert set(np.unique(mask)) == {0, 1}
    assert (np.diff(mask[32].astype(int)) >= 0).all()
    assert abs(int((mask[32] == 0).sum()) - 56) <= 1


@pytest.mark.parametrize("values", [(16, 0.2), (640, 0.6), (640, -0.1)])
def test_values_that_make_no_tiling_are_told(values: tuple[int, float]) -> None:
    with pytest.raises(DataError, match="tile: px"):
        Tiling(*values)


def test_json_round_trip() -> None:
    assert Tiling.from_json(TILING.to_json()) == TILING


@pytest.mark.parametrize("case", VECTORS["windows"], ids=lambda case: f"{case['width']}x{case['height']}")
def test_golden_windows(case: dict) -> None:
    found = Tiling.from_json(case["tile"]).windows(case["height"], case["width"])
    assert [list(window) for window in found] == case["windows"]


@pytest.mark.parametrize("case", VECTORS["boxes"], ids=lambda case: case["name"])
def test_golden_boxes(case: dict) -> None:
    parts = [tile_vectors.from_plain(part) for part in case["tiles"]]
    found = tile_vectors.merge(Tiling.from_json(case["tile"]), case["height"], case["width"], parts)
    assert {name: value.tolist() for name, value in found.items()} == case["image"]


def test_golden_masks() -> None:
    for case in VECTORS["masks"]:
        found = tile_vectors.numbered(Tiling.from_json(case["tile"]), case["height"], case["width"])
        assert [" ".join(map(str, row)) for row in found["mask"][0].tolist()] == case["rows"]
        assert np.array_equal(found["confidence"], found["mask"] / np.float32(8))


def test_golden_vectors_reach_every_rule() -> None:
    """Halves of pixels, cut and whole boxes, more boxes than tiles have room for, tiles without any."""
    starts = [case["tile"]["px"] for case in VECTORS["windows"]]
    assert len(starts) > 15
    halves = [
        i * (case["width"] - case["tile"]["px"]) / (count - 1) % 1
        for case in VECTORS["windows"]
        if (count := len({window[0] for window in case["windows"]})) > 1
        for i in range(count)
    ]
    assert 0.5 in halves
    rooms = [(len(case["image"]["scores"][0]), len(case["tiles"][0]["scores"][0])) for case in VECTORS["boxes"]]
    assert any(found > 4 * room for found, room in rooms)
    assert any(found == 0 for found, _ in rooms)
