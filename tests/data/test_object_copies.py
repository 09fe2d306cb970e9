from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pangu_cv.data.check import check_dataset
from pangu_cv.data.object_copies import INLIERS, moving_together, object_copies, points_of
from pangu_cv.data.sample import Box, Sample
from pangu_runtime.decode import DEFAULT_SPEC

SIDE = 240
BOX = (60.0, 60.0, 180.0, 180.0)


def scene(seed: int, part: np.ndarray, *, turn: float = 0.0, stretch: float = 1.0) -> np.ndarray:
    """A part, turned and stretched, on a cluttered background of its own."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 255, (24, 24, 3), dtype=np.uint8)
    image = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    side = part.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), turn, 1.0)
    matrix[0] *= stretch
    image[60:180, 60:180] = cv2.warpAffine(part, matrix, (120, 120), borderMode=cv2.BORDER_REFLECT)
    return image


def part(seed: int) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    return cv2.resize(small, (120, 120), interpolation=cv2.INTER_CUBIC)


def test_a_part_is_known_again_turned_stretched_and_elsewhere() -> None:
    one = points_of(scene(1, part(0)), [BOX])
    again = points_of(scene(2, part(0), turn=12, stretch=0.9), [BOX])
    other = points_of(scene(2, part(5)), [BOX])
    assert moving_together(one, again) >= INLIERS
    assert moving_together(one, other) < INLIERS / 2


def test_the_same_background_does_not_make_one_object_of_two() -> None:
    one, other = scene(3, part(0)), scene(3, part(5))
    assert moving_together(points_of(one, [BOX]), points_of(other, [BOX])) < INLIERS / 2
    assert moving_together(points_of(one), points_of(other)) >= INLIERS  # where nothing is annotated it is one scene


def test_pictures_without_points_are_like_nothing() -> None:
    flat = points_of(np.full((50, 50, 3), 90, np.uint8))
    assert len(flat.at_P2) == 0
    assert moving_together(flat, points_of(scene(1, part(0)))) == 0


@pytest.fixture
def pictures(tmp_path: Path) -> list[Sample]:
    """VOC: two composites of one part on both sides of the split, and another part."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    made = [(1, part(0), 0.0), (2, part(0), 10.0), (4, part(9), 0.0)]
    for number, (seed, shown, turn) in enumerate(made):
        Image.fromarray(scene(seed, shown, turn=turn)).save(tmp_path / "JPEGImages" / f"p{number}.png")
        corners = "<xmin>60</xmin><ymin>60</ymin><xmax>180</xmax><ymax>180</ymax>"
        text = f"<annotation><object><name>part</name><bndbox>{corners}</bndbox></object></annotation>"
        (tmp_path / "Annotations" / f"p{number}.xml").write_text(text)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("p0\np2")
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_text("p1")
    return [Sample(tmp_path / "JPEGImages" / f"p{n}.png", boxes=(Box("part", BOX),)) for n in range(3)]


def test_groups_of_one_object_are_found_and_a_broken_file_is_passed_over(pictures: list[Sample]) -> None:
    assert object_copies(pictures, spec=DEFAULT_SPEC) == [(0, 1)]
    pictures[0].path.write_bytes(b"no image")
    assert object_copies(pictures, spec=DEFAULT_SPEC) == []


def test_check_says_that_one_object_is_on_both_sides(pictures: list[Sample]) -> None:
    root = pictures[0].path.parent.parent
    assert check_dataset(root).object_copies == ()
    [copies] = check_dataset(root, with_objects=True).object_copies
    assert (copies.kind, copies.paths, copies.leaks) == ("object", ("JPEGImages/p0.png", "JPEGImages/p1.png"), True)
    advice = check_dataset(root, with_objects=True).advice
    assert any("of one object on both sides of a split" in line for line in advice)
