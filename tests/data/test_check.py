import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pangu_cv.data.check import check_dataset
from pangu_cv.data.contact_sheet import class_rows, contact_sheet
from pangu_cv.data.masks import read_mask
from pangu_cv.data.readers import read_dataset
from pangu_cv.errors import DataError
from pangu_runtime.decode import DecodeSpec

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"


def image(path: Path, seed: int, size: tuple[int, int] = (8, 6), **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def dataset(root: Path, each: int = 6) -> Path:
    for number, split in enumerate(("train", "test")):
        for at in range(each):
            for label in "ab":
                image(root / split / label / f"{at}.png", 1000 * number + 100 * ord(label) + at)
    return root


def bomb(path: Path) -> None:
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0), b"IDAT" + zlib.compress(bytes(99))]
    parts = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_a_clean_dataset_needs_no_advice(tmp_path: Path) -> None:
    check = check_dataset(dataset(tmp_path))
    assert check.ok
    assert check.advice == ()
    assert (check.layout, check.images) == ("class_folders", 24)
    assert check.counts == {"train": {"a": 6, "b": 6}, "test": {"a": 6, "b": 6}}
    assert check.kinds == {"PNG RGB 8-bit": 24}
    assert check.sizes is not None
    assert check.sizes.width_px == (8, 8, 8)
    assert check.sizes.commonest == {"8x6": 24}
    assert json.loads(json.dumps(check.to_json()))["ok"] is True


def test_sizes(tmp_path: Path) -> None:
    for at, width in enumerate((10, 20, 90)):
        image(tmp_path / "a" / f"{at}.png", at, (width, 5))
    sizes = check_dataset(tmp_path).sizes
    assert sizes is not None
    assert (sizes.width_px, sizes.height_px, sizes.distinct) == ((10, 20, 90), (5, 5, 5), 3)


def test_unreadable_files_are_listed_with_their_reason(tmp_path: Path) -> None:
    folder = dataset(tmp_path) / "train" / "a"
    data = image(folder / "cut.jpg", 5, (64, 64)).read_bytes()
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    (folder / "page.jpg").write_text("<html>404</html>")
    bomb(folder / "bomb.png")
    frames = [Image.new("L", (4, 4), v) for v in (0, 99)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    check = check_dataset(tmp_path)
    assert not check.ok
    assert {f.path.rsplit("/", 1)[-1]: f.reason for f in check.unreadable} == {
        "bomb.png": "too_large",
        "cut.jpg": "truncated",
        "moving.gif": "multipage",
        "page.jpg": "not_an_image",
    }
    assert all(f.path.startswith("train/a/") and "<bytes>" not in f.message for f in check.unreadable)
    assert "4 images cannot be read" in check.advice[0]


def test_duplicates_across_splits_are_a_leak(tmp_path: Path) -> None:
    dataset(tmp_path)
    for at in (0, 1):
        (tmp_path / "test" / "a" / f"copy{at}.png").write_bytes((tmp_path / "train" / "a" / f"{at}.png").read_bytes())
    check = check_dataset(tmp_path)
    assert not check.ok
    assert [d.kind for d in check.duplicates] == ["bytes", "bytes"]
    assert check.duplicates[0].splits == ("train", "test")
    assert check.advice == (
        "2 pictures in train and test at once: remove from one, or the score is too good; "
        "first train/a/0.png = test/a/copy0.png",
    )


def test_the_same_pixels_in_another_file_and_under_another_label(tmp_path: Path) -> None:
    dataset(tmp_path)
    Image.open(tmp_path / "train" / "a" / "0.png").save(tmp_path / "train" / "b" / "again.bmp")
    (tmp_path / "test" / "a" / "x.png").write_bytes((tmp_path / "test" / "a" / "0.png").read_bytes())
    check = check_dataset(tmp_path)
    assert not check.ok
    torn, plain = check.duplicates
    assert (torn.kind, torn.labels, torn.contradicts, torn.leaks) == ("pixels", ("a", "b"), True, False)
    assert (plain.kind, plain.contradicts, plain.leaks) == ("bytes", False, False)
    assert (
        "1 picture with more than one label: decide; first train/a/0.png = train/b/again.bmp (a and b)" in check.advice
    )
    assert check.advice[1].startswith("1 image repeated on one side")


def test_masks(tmp_path: Path) -> None:
    for name in ("train/good/0.png", "test/good/0.png", *(f"test/hole/{at}.png" for at in range(4))):
        image(tmp_path / name, len(name) * 31 + ord(name[-5]))
    truth = tmp_path / "ground_truth" / "hole"
    truth.mkdir(parents=True)
    for at, (size, value) in enumerate([((8, 6), 1), ((6, 8), 255), ((8, 6), 0)]):
        Image.new("L", size, value).save(truth / f"{at}_mask.png")
    (truth / "3_mask.png").write_bytes(b"")
    check = check_dataset(tmp_path)
    assert [(m.path[-10:], m.reason) for m in check.mask_faults] == [
        ("1_mask.png", "size"),
        ("2_mask.png", "empty"),
        ("3_mask.png", "truncated"),
    ]
    assert check.mask_faults[0].message == "mask 6 x 8, image 8 x 6 pixels"
    assert not check.ok
    assert any("3 masks unusable" in line for line in check.advice)


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "RGBA"])
def test_masks_of_every_mode_read_alike(tmp_path: Path, mode: str) -> None:
    marked = np.zeros((6, 8), np.uint8)
    marked[2:4, 3:5] = 1
    if mode == "I;16":
        picture = Image.fromarray(marked.astype(np.uint16))
    elif mode == "RGBA":
        picture = Image.fromarray(np.stack([marked * 255, marked, marked, marked * 255], 2))
    elif mode == "P":
        picture = Image.frombytes("P", (8, 6), marked.tobytes())
        picture.putpalette([0, 0, 0, 128, 0, 0])
    else:
        picture = Image.fromarray(marked > 0) if mode == "1" else Image.fromarray(marked)
    picture.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), marked > 0)


def test_16bit_range_is_suggested(tmp_path: Path) -> None:
    for at in range(6):
        (tmp_path / "a").mkdir(exist_ok=True)
        values = np.random.default_rng(at).integers(200, 3900, (6, 8)).astype(np.uint16)
        values[0, :2] = 200, 3900
        Image.fromarray(values).save(tmp_path / "a" / f"{at}.png")
    check = check_dataset(tmp_path)
    assert check.range_16bit is not None
    assert check.range_16bit.found == (200, 3900)
    assert check.range_16bit.suggested == (0, 4095)
    assert check.kinds == {"PNG I;16 16-bit": 6}
    assert any("set range_16bit to [0, 4095]" in line for line in check.advice)
    fitting = check_dataset(tmp_path, spec=DecodeSpec(range_16bit=(0, 4095)))
    assert not any("range_16bit" in line for line in fitting.advice)
    short = check_dataset(tmp_path, spec=DecodeSpec(range_16bit=(0, 1023)))
    assert any("clipped at [0, 1023]" in line for line in short.advice)


def test_classes_and_shortcuts(tmp_path: Path) -> None:
    for at in range(6):
        image(tmp_path / "train" / "a" / f"{at}.png", at)
        image(tmp_path / "train" / "b" / f"{at}.jpg", 100 + at)
    image(tmp_path / "train" / "c" / "0.png", 200)
    image(tmp_path / "val" / "d" / "0.png", 201)
    advice = check_dataset(tmp_path).advice
    assert advice[0].startswith("fewer than 5 images to train on: c 1;")
    assert advice[1].startswith("tested but never trained on: d;")
    assert advice[2].startswith("no test split")
    assert advice[3].startswith("all images of 'b' are JPEG RGB 8-bit, and no others are")


def test_images_without_a_label_are_no_small_class(tmp_path: Path) -> None:
    rows = [f"{at}.png,{'a' if at < 6 else ''},train" for at in range(8)]
    for at in range(8):
        image(tmp_path / f"{at}.png", at)
    (tmp_path / "data.csv").write_text("\n".join(["file,label,split", *rows]))
    check = check_dataset(tmp_path / "data.csv")
    assert check.counts["train"] == {"a": 6, "unlabelled": 2}
    assert not any("fewer than" in line for line in check.advice)


def boxes_of_two(root: Path, *, train: str, test: str) -> Path:
    """A YOLO set of one picture in train, twice in test; each text is a file of labels, "-" for none."""
    (root / "data.yaml").write_text("names: [pit, crack]\ntrain: images/train\ntest: images/test\n")
    for name, text, seed in (("train/a", train, 1), ("test/a", test, 2), ("test/b", "0 .5 .5 .5 .5", 2)):
        image(root / "images" / f"{name}.png", seed)
        if text != "-":
            (root / "labels" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "labels" / f"{name}.txt").write_text(text)
    return root


@pytest.mark.parametrize(("train", "test"), [("0 .5 .5 .5 .5", ""), ("0 .5 .5 .5 .5", "-")])
def test_what_stands_for_no_class_is_not_missed_in_training(tmp_path: Path, train: str, test: str) -> None:
    found = check_dataset(boxes_of_two(tmp_path, train=train, test=test))
    assert {"(no object)", "unlabelled"} & found.counts["test"].keys()
    assert not any("never trained on" in line for line in found.advice)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ("(no object)", "pit")),
        ("1 .5 .5 .5 .5", ("crack", "pit")),
        ("0 .5 .5 .5 .5\n1 .5 .5 .5 .5", ("crack, pit", "pit")),
        ("0 .5 .5 .4 .5", None),
    ],
)
def test_a_picture_with_other_boxes_the_second_time_is_a_contradiction(
    tmp_path: Path, text: str, told: tuple[str, str] | None
) -> None:
    found = check_dataset(boxes_of_two(tmp_path, train="1 .5 .5 .5 .5", test=text))
    assert found.ok == (told is None)
    lines = [line for line in found.advice if "more than one label" in line]
    assert len(lines) == (told is not None)
    if told:
        assert lines[0].endswith(f"first images/test/a.png = images/test/b.png ({told[0]} and {told[1]})")


def test_a_picture_with_another_mask_the_second_time_is_a_contradiction(tmp_path: Path) -> None:
    for name, value in (("a", 0), ("b", 1)):
        image(tmp_path / "images" / f"{name}.png", 3)
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.new("L", (8, 6), value).save(tmp_path / "masks" / f"{name}.png")
    (tmp_path / "classes.txt").write_text("background\npit\n")
    [found] = check_dataset(tmp_path).duplicates
    assert (found.labels, found.contradicts) == (("mask of 0", "mask of 1"), True)


def test_names_that_differ_in_case_or_spaces_are_told(tmp_path: Path) -> None:
    for number, name in enumerate(("Good", "good", "broken disc", "broken_disc", "scratch")):
        image(tmp_path / name / "0.png", number)
    told = "\n".join(check_dataset(tmp_path).advice)
    assert "'Good' and 'good' differ in case or in how words are joined alone, and count as 2 classes" in told
    assert "'broken disc' and 'broken_disc' differ" in told
    assert "scratch' and" not in told


def test_a_folder_of_images_is_checked_without_labels(tmp_path: Path) -> None:
    for at in range(3):
        image(tmp_path / f"{at}.png", at)
    check = check_dataset(tmp_path)
    assert (check.layout, check.counts, check.ok) == ("images", {"all": {"unlabelled": 3}}, True)
    assert check.advice == ()
    with pytest.raises(DataError, match="found nothing"):
        check_dataset(tmp_path.joinpath("empty").mkdir() or tmp_path / "empty")


def test_progress_counts_every_image(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    check_dataset(dataset(tmp_path, 1), progress=lambda done, total: seen.append((done, total)), workers=2)
    assert seen == [(at, 4) for at in range(1, 5)]


def test_contact_sheet(tmp_path: Path) -> None:
    dataset(tmp_path)
    (tmp_path / "train" / "b" / "0.png").write_bytes(b"no")
    rows = class_rows(read_dataset(tmp_path), per_class=3, thumb_px=16)
    assert [(row.label, row.thumbnails.shape) for row in rows] == [("a", (3, 16, 16, 3)), ("b", (3, 16, 16, 3))]
    assert tuple(rows[1].thumbnails[0, 0, 0]) == (200, 0, 0)
    assert tuple(rows[0].thumbnails[0, 0, 0]) == (127, 127, 127)
    assert contact_sheet(rows, gap_px=2).shape == (2 * 18 + 2, 3 * 18 + 2, 3)
    with pytest.raises(DataError, match="at least one class"):
        contact_sheet([])


CYAN = (0, 229, 255)


def test_a_contact_sheet_of_boxes_has_a_row_a_class_with_its_boxes_outlined(tmp_path: Path) -> None:
    dataset = read_dataset(boxes_of_two(tmp_path, train="1 .25 .5 .5 1", test=""))
    rows = {row.label: row.thumbnails for row in class_rows(dataset, thumb_px=16)}
    assert list(rows) == ["(no object)", "crack", "pit"]
    assert [len(thumbnails) for thumbnails in rows.values()] == [1, 1, 1]
    crack = (rows["crack"][0] == CYAN).all(2)
    assert (crack[:, 0].sum(), crack[:, 8].sum(), crack[:, 9:].sum()) == (12, 12, 0)
    assert not (rows["(no object)"] == CYAN).all(-1).any()


def test_a_contact_sheet_of_masks_has_a_row_a_class_with_its_pixels_tinted(tmp_path: Path) -> None:
    for number, name in enumerate(("none", "both")):
        image(tmp_path / "images" / f"{name}.png", number, (16, 16))
        numbers = np.zeros((16, 16), np.uint8)
        numbers[:4], numbers[12:] = number, 2 * number
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(numbers).save(tmp_path / "masks" / f"{name}.png")
    (tmp_path / "classes.txt").write_text("background\nrust\npit\n")
    rows = {row.label: row.thumbnails for row in class_rows(read_dataset(tmp_path), thumb_px=16)}
    assert list(rows) == ["(no object)", "pit", "rust"]
    plain = np.asarray(Image.open(tmp_path / "images" / "both.png"))
    for label, part in (("rust", slice(0, 4)), ("pit", slice(12, 16))):
        changed = (rows[label][0] != plain).any(2)
        assert changed[part].all()
        assert changed.sum() == 4 * 16


def test_runs_without_torch() -> None:
    heavy = "{'torch', 'sklearn', 'timm', 'albumentations', 'cv2', 'pandas'}"
    code = "import sys, pangu_cv.data.check, pangu_cv.data.few_shot, pangu_cv.data.contact_sheet;"
    subprocess.run([sys.executable, "-c", f"{code} sys.exit(bool({heavy} & set(sys.modules)))"], check=True)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared images are not here")
def test_a_real_dataset_is_clean() -> None:
    check = check_dataset(SHARED / "splits" / "rsscn7.csv")
    assert check.ok
    assert check.advice == ()
    assert check.counts["train"]["Field"] == 21
