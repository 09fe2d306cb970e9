"""Groups that a layout itself names."""

from pathlib import Path

import pytest
from PIL import Image

from pangu_cv.data.check import check_dataset
from pangu_cv.data.config import DataConfig


def table(root: Path, *splits: str) -> Path:
    """Images of one group in the parts named, and two of another in train."""
    rows = ["file,label,split,group"]
    for at, (split, group) in enumerate([*((split, "disc") for split in splits), ("train", "ring"), ("train", "ring")]):
        Image.new("RGB", (8, 8), (40 * at, 0, 0)).save(root / f"{at}.png")
        rows.append(f"{at}.png,{'ab'[at % 2]},{split},{group}")
    (root / "set.csv").write_text("\n".join(rows))
    return root / "set.csv"


def test_a_table_that_tears_its_own_groups_is_told(tmp_path: Path) -> None:
    torn = table(tmp_path, "train", "test")
    told = "1 group is on both sides of the set's own parts"
    for notes in (DataConfig(path=torn).read().notes, check_dataset(torn).notes):
        assert [note.startswith(told) for note in notes] == [True]
    assert DataConfig(path=torn, split="anew").read().notes == ()


@pytest.mark.parametrize("splits", [("test", "test"), ("train",)])
def test_whole_groups_need_no_note(tmp_path: Path, splits: tuple[str, ...]) -> None:
    whole = table(tmp_path, *splits)
    assert DataConfig(path=whole).read().notes == check_dataset(whole).notes == ()
