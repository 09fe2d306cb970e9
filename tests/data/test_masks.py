from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pangu_cv.data.check import check_dataset
from pangu_cv.data.masks import read_class_mask, read_mask
from pangu_cv.errors import ImageError

NUMBERS = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)


def test_grey_and_palette_pixels_are_class_numbers(tmp_path: Path) -> None:
    Image.fromarray(NUMBERS).save(tmp_path / "grey.png")
    palette = Image.fromarray(NUMBERS).convert("P")
    palette.putpalette([7, 7, 7] * 256)
    palette.putdata(NUMBERS.ravel().tolist())
    palette.save(tmp_path / "palette.png")
    for name in ("grey.png", "palette.png"):
        assert np.array_equal(read_class_mask(tmp_path / name, classes=3), NUMBERS)


def test_of_two_classes_any_value_is_the_second(tmp_path: Path) -> None:
    Image.fromarray(NUMBERS).save(tmp_path / "a.png")
    assert np.array_equal(read_class_mask(tmp_path / "a.png", classes=2), NUMBERS > 0)


@pytest.mark.parametrize("kind", ["L", "P"])
def test_of_two_classes_255_beside_1_is_no_matter_what(tmp_path: Path, kind: str) -> None:
    numbers = np.array([[0, 1, 1], [255, 255, 0]], np.uint8)
    picture = Image.frombytes(kind, (3, 2), numbers.tobytes())
    if kind == "P":
        picture.putpalette([9, 9, 9] * 256)
    picture.save(tmp_path / "a.png")
    assert np.array_equal(read_class_mask(tmp_path / "a.png", classes=2), numbers)
    Image.fromarray(np.where(numbers == 1, 0, numbers)).save(tmp_path / "b.png")
    assert np.array_equal(read_class_mask(tmp_path / "b.png", classes=2), numbers == 255)


@pytest.mark.parametrize(("values", "is_told"), [((1, 2), True), ((1, 255), True), ((255, 255), False)])
def test_check_tells_of_values_that_count_as_one_defect(tmp_path: Path, values: tuple[int, int], is_told: bool) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (3, 2), (90, 0, 0)).save(tmp_path / "images" / "a.png")
    Image.fromarray(np.array([[0, *values], [0, 0, 0]], np.uint8)).save(tmp_path / "masks" / "a.png")
    notes = [note for note in check_dataset(tmp_path).notes if "more than one value beside 0" in note]
    assert len(notes) == is_told
    assert all(note.startswith("1 masks hold") and note.endswith("first masks/a.png") for note in notes)


def test_of_two_classes_a_palette_gives_its_numbers_and_not_its_colours(tmp_path: Path) -> None:
    palette = Image.frombytes("P", (3, 2), NUMBERS.tobytes())
    palette.putpalette([255, 255, 255, 0, 0, 0, 0, 0, 0])
    palette.save(tmp_path / "a.png")
    assert np.array_equal(read_class_mask(tmp_path / "a.png", classes=2), NUMBERS > 0)


@pytest.mark.parametrize(
    ("pixels", "told"),
    [
        (np.array([[0, 9]], np.uint8), r"has the values \[9\]; allowed are 0 to 2"),
        (np.zeros((2, 2, 3), np.uint8), "RGB"),
    ],
)
def test_values_that_are_no_class_are_told(tmp_path: Path, pixels: np.ndarray, told: str) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=told) as caught:
        read_class_mask(tmp_path / "a.png", classes=3)
    assert caught.value.reason == "values"


def drawn(bright: int) -> np.ndarray:
    mask = np.zeros((120, 160), np.uint8)
    mask[33:60, 21:70] = bright
    mask[:, 100:103] = bright
    return mask


@pytest.mark.parametrize("quality", [75, 90, 95])
@pytest.mark.parametrize("bright", [255, 128])
def test_the_rim_that_a_jpeg_adds_is_no_defect(tmp_path: Path, quality: int, bright: int) -> None:
    mask = drawn(bright)
    Image.fromarray(mask).save(tmp_path / "a.jpg", quality=quality)
    with Image.open(tmp_path / "a.jpg") as stored:
        assert (np.asarray(stored) > 0).sum() > 1.03 * (mask > 0).sum()
    assert np.array_equal(read_mask(tmp_path / "a.jpg"), mask > 0)
    assert np.array_equal(read_class_mask(tmp_path / "a.jpg", classes=2), mask > 0)


def test_fainter_defects_of_a_jpeg_count_too(tmp_path: Path) -> None:
    mask = drawn(255)
    mask[5:25, 120:150] = 100
    Image.fromarray(mask).save(tmp_path / "a.jpg", quality=90)
    assert np.array_equal(read_mask(tmp_path / "a.jpg"), mask > 0)


@pytest.mark.parametrize("bright", [0, 1])
def test_a_jpeg_of_nothing_or_of_ones_is_not_cut(tmp_path: Path, bright: int) -> None:
    Image.fromarray(drawn(bright)).save(tmp_path / "a.jpg", quality=100, subsampling=0)
    assert (read_mask(tmp_path / "a.jpg") != (drawn(bright) > 0)).mean() < 0.01


def test_faint_values_of_other_formats_are_defects(tmp_path: Path) -> None:
    mask = drawn(255)
    mask[0, :5] = 1
    for name in ("a.png", "a.bmp", "a.tif"):
        Image.fromarray(mask).save(tmp_path / name)
        assert np.array_equal(read_mask(tmp_path / name), mask > 0)


def test_class_numbers_in_a_jpeg_are_refused(tmp_path: Path) -> None:
    Image.fromarray(drawn(2)).save(tmp_path / "a.jpg", quality=100)
    with pytest.raises(ImageError, match="is a JPEG, which alters class numbers") as caught:
        read_class_mask(tmp_path / "a.jpg", classes=3)
    assert caught.value.reason == "values"


def test_check_counts_classes_and_names_wrong_masks(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    random = np.random.default_rng(0)
    for stem in ("a", "b", "c"):
        Image.fromarray(random.integers(0, 255, (2, 3, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{stem}.png")
    Image.fromarray(NUMBERS).save(tmp_path / "masks" / "a.png")
    Image.fromarray(NUMBERS + 5).save(tmp_path / "masks" / "b.png")
    Image.fromarray(NUMBERS[:, :2]).save(tmp_path / "masks" / "c.png")
    (tmp_path / "classes.txt").write_text("background\nrust\ncrack\n")
    found = check_dataset(tmp_path)
    assert found.counts["all"] == {"background": 1, "crack": 1, "rust": 1}
    assert [(fault.path, fault.reason) for fault in found.mask_faults] == [
        ("masks/b.png", "values"),
        ("masks/c.png", "size"),
    ]
    assert not found.ok
