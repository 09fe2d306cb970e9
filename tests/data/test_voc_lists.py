"""The lists of ``ImageSets/Main``: how their files are named, and how the images in them."""

from pathlib import Path

import pytest
from PIL import Image

from pangu_cv.data.readers import read_dataset
from pangu_cv.data.sample import Dataset
from pangu_cv.errors import DataError


def read(folder: Path, *stems: str, **lists: str) -> Dataset:
    for place in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / place).mkdir(parents=True)
    for stem in stems:
        Image.new("RGB", (4, 4)).save(folder / "JPEGImages" / f"{stem}.png")
        (folder / "Annotations" / f"{stem}.xml").write_text("<annotation/>")
    for name, text in lists.items():
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text(text, encoding="utf-8")
    return read_dataset(folder)


def splits(dataset: Dataset) -> dict[str, str | None]:
    return {sample.path.stem: sample.split for sample in dataset}


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train", "val", "test"), ("Train", "Validation", "Test"), ("training", "valid", "TESTING")],
)
def test_lists_are_known_by_any_name_of_a_split(tmp_path: Path, train: str, val: str, test: str) -> None:
    dataset = read(tmp_path, "a", "b", "c", **{train: "a\n", val: "b\n", test: "c\n"})
    assert splits(dataset) == {"a": "train", "b": "val", "c": "test"}
    assert not dataset.notes


def test_of_trainval_the_rest_is_train(tmp_path: Path) -> None:
    dataset = read(tmp_path, "a", "b", "c", trainval="a\nb\n", val="b\n", test="c\n")
    assert splits(dataset) == {"a": "train", "b": "val", "c": "test"}
    assert not dataset.notes


def test_lists_of_other_names_are_told(tmp_path: Path) -> None:
    dataset = read(tmp_path, "a", train="a\n", default="a\n", pin_train="a 1\n", **{"._train": "a\n"})
    assert dataset.notes == ("2 lists of ImageSets/Main are named for no split and were not read; first default.txt",)


def test_a_mark_at_the_start_belongs_to_no_name(tmp_path: Path) -> None:
    assert splits(read(tmp_path, "a", train="\ufeffa\r\n")) == {"a": "train"}


def test_a_list_in_another_encoding_is_refused(tmp_path: Path) -> None:
    read(tmp_path, "a")
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_bytes("裂纹\n".encode("gbk"))
    with pytest.raises(DataError, match=r"train\.txt: byte \d is no UTF-8"):
        read_dataset(tmp_path)


def test_names_keep_their_spaces_and_lose_the_column_of_a_class(tmp_path: Path) -> None:
    dataset = read(tmp_path, "left door", "part 1", "x", "y", train="left door\npart 1\n", test="x -1\ny  1\n\n")
    assert splits(dataset) == {"left door": "train", "part 1": "train", "x": "test", "y": "test"}
    assert not dataset.notes
