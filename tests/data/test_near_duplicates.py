import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pangu_cv.data.check import check_dataset
from pangu_cv.data.config import DataConfig
from pangu_cv.data.few_shot import holdout
from pangu_cv.data.near_duplicates import groups_of, near_duplicates, thumbnail
from pangu_cv.errors import DataError
from pangu_cv.verbs.data import check


def picture(seed: int, side: int = 96) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def thumb(image: Image.Image) -> np.ndarray | None:
    return thumbnail(np.asarray(image))


def test_saved_again_smaller_and_darker_is_found_and_others_are_not() -> None:
    original = picture(0)
    darker = original.point(lambda value: int(0.7 * value) + 10)
    small = original.resize((40, 40))
    thumbnails = [thumb(one) for one in (original, picture(1), darker, picture(2), small)]
    assert near_duplicates(thumbnails) == [(0, 2, 4)]


def test_pictures_of_nothing_are_alike_to_none() -> None:
    flat = Image.new("RGB", (64, 64), (80, 80, 80))
    assert thumb(flat) is None
    assert near_duplicates([None, None]) == []


def test_blocks_find_what_one_matrix_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    thumbnails = [thumb(picture(seed % 7)) for seed in range(20)]
    whole = near_duplicates(thumbnails)
    monkeypatch.setattr("pangu_cv.data.near_duplicates._BLOCK", 3)
    assert near_duplicates(thumbnails) == whole == [tuple(range(at, 20, 7)) for at in range(7)]


@pytest.mark.parametrize("block", [3, 2048])
def test_groups_are_the_chains_of_all_pairs(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr("pangu_cv.data.near_duplicates._BLOCK", block)
    random = np.random.default_rng(0)
    angles = np.cumsum(random.uniform(0, 0.08, 60))[random.permutation(60)]  # 0.99 is an angle of 0.14
    on_circle = [np.array([np.cos(angle), np.sin(angle)], np.float32) for angle in angles]
    thumbnails = [None if at % 13 == 5 else one for at, one in enumerate(on_circle)]
    known = [at for at, one in enumerate(thumbnails) if one is not None]
    pairs = [(i, j) for i in known for j in known if i < j and on_circle[i] @ on_circle[j] >= 0.999]
    found = near_duplicates(thumbnails, correlation=0.999)
    assert found == groups_of(pairs)
    assert len(found) > 2


def test_memory_does_not_grow_with_the_number_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pangu_cv.data.near_duplicates._BLOCK", 64)
    one = thumb(picture(0))
    tracemalloc.start()
    assert near_duplicates([one] * 1000) == [tuple(range(1000))]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # half a million pairs need 32 MB and more


def test_chains_become_groups() -> None:
    assert groups_of([(4, 9), (1, 2), (9, 5), (2, 7)]) == [(1, 2, 7), (4, 5, 9)]
    assert groups_of([(4, 9, 6), (1, 2), (5, 9), (3,)]) == [(1, 2), (3,), (4, 5, 6, 9)]


def folders(root: Path) -> Path:
    for split, seeds in (("train", (0, 1, 2)), ("test", (3, 4))):
        for label in "ab":
            (root / split / label).mkdir(parents=True)
            for seed in seeds:
                picture(seed + 10 * ord(label)).save(root / split / label / f"{seed}.png")
    picture(10 * ord("a"), 64).save(root / "test" / "a" / "again.png")
    return root


def test_leak_between_splits_is_told_and_its_groups_can_be_written(tmp_path: Path) -> None:
    found = check_dataset(folders(tmp_path / "data"))
    assert [d.paths for d in found.look_alikes] == [("train/a/0.png", "test/a/again.png")]
    assert found.look_alikes[0].leaks
    assert any("look the same on both sides of a split" in line for line in found.advice)
    table = tmp_path / "groups.csv"
    check(tmp_path / "data", groups=table)
    dataset = DataConfig(path=tmp_path / "data", groups=table).read()
    grouped = [s.path.name for s in dataset if s.group is not None]
    assert grouped == ["0.png", "again.png"]
    assert len({s.group for s in dataset if s.group is not None}) == 1


@pytest.mark.parametrize(
    ("text", "told"), [("file\nx\n", "columns file and group"), ("file,group\nother.png,1\n", "names no image of")]
)
def test_groups_that_do_not_fit_are_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(DataError, match=told):
        DataConfig(path=folders(tmp_path / "data"), groups=tmp_path / "groups.csv").read()


def test_with_the_parts_drawn_anew_a_group_stays_on_one_side(tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    check(folders(tmp_path / "data"), groups=table)
    torn = DataConfig(path=tmp_path / "data", groups=table).read()
    assert any("1 group is on both sides of the set's own parts" in note for note in torn.notes)
    anew = DataConfig(path=tmp_path / "data", groups=table, split="anew").read()
    assert {s.split for s in anew} == {None}
    assert not any("both sides" in note for note in anew.notes)
    for seed in range(8):
        parts = holdout(anew, fraction=0.4, seed=seed)
        sides = {"kept" if s in parts.kept else "held" for s in anew if s.group is not None}
        assert len(sides) == 1


def test_a_table_joins_groups_that_were_known_and_blank_cells_join_nothing(tmp_path: Path) -> None:
    root = folders(tmp_path / "data")
    own = tmp_path / "own.csv"
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    lines = [f"{name},x,part{number // 2}" for number, name in enumerate(names[:6])]
    own.write_text("file,label,group\n" + "\n".join(lines))
    table = tmp_path / "groups.csv"
    table.write_text(f"file,group\n{names[1]},alike\n{names[2]},alike\n{names[4]},\n{names[5]},\n")
    dataset = DataConfig(path=own, root=root, groups=table).read()
    found = [s.group for s in sorted(dataset, key=lambda s: names.index(s.path.relative_to(root).as_posix()))]
    assert len(set(found[:4])) == 1  # part0 and part1 are one by the two pictures that look alike
    assert found[4] == found[5]  # their own group
    assert found[4] not in found[:4]


def test_a_file_in_several_groups_joins_them_whatever_its_name_looks_like(tmp_path: Path) -> None:
    root = folders(tmp_path / "data")
    rows = ["train/a/0.png,A", "./train/a/1.png,A", " train/a/1.png ,B", "train\\\\a\\\\2.png,B"]
    (tmp_path / "groups.csv").write_text("file,group\n" + "\n".join(rows).replace("\\\\", "\\") + "\n")
    dataset = DataConfig(path=root, groups=tmp_path / "groups.csv").read()
    grouped = {s.path.name: s.group for s in dataset if s.group is not None}
    assert grouped == dict.fromkeys(("0.png", "1.png", "2.png"), grouped["0.png"])


def test_a_table_that_names_two_groups_of_one_image_is_refused(tmp_path: Path) -> None:
    root = folders(tmp_path / "data")
    (root / "own.csv").write_text("file,label,group\ntrain/a/0.png,a,A\ntrain/a/0.png,a,B\n")
    with pytest.raises(DataError, match="has the group 'B', but 'A' on line 2"):
        DataConfig(path=root / "own.csv").read()
