"""The ranked list: filled in by a person, it is a labelled dataset."""

import csv
import shlex
import shutil
from pathlib import Path

import pytest

from pangu_cv import cli, recipes
from pangu_cv.data.config import DataConfig
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.iterate.mine import MineRecipe, mine
from pangu_cv.iterate.mine.stage import images_of
from pangu_cv.tasks.saved import load_model
from tests.finetune.tiny import COLOURS, picture, save
from tests.iterate.plants import ancestor

NETWORK = ["name=test_efficientnet", "levels=[2, 3, 4]"]


def pool(root: Path, *, first: int = 0) -> Path:
    """Twelve images of two colours in a subfolder, named by their colour."""
    for number in range(first, first + 12):
        name = ("blue", "red")[number % 2]
        save(root / "line 2" / f"{name}{number}.png", picture(COLOURS[name], number))
    return root


def asked(tmp_path: Path, images: Path, out: str, *more: str) -> list[str]:
    weights = f"backbone.weights={ancestor(tmp_path / 'ancestor.safetensors')}"
    settings = [f"images={images}", f"output={tmp_path / out}", f"store={tmp_path / 'store'}", weights]
    return [*settings, *(f"backbone.{one}" for one in NETWORK), "preprocess.image_px=64", *more]


def load(*settings: str) -> MineRecipe:
    return MineRecipe.load(recipes.find("iterate", "find"), settings)


def fill_in(ranked: Path, *, delimiter: str = ",", most: int = 100) -> None:
    """What a person says, saved as a German Excel does: semicolons, a byte order mark, CRLF."""
    with ranked.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows[:most]:
        row["label"] = row["label"] or "".join(c for c in Path(row["file"]).stem if c.isalpha())
    with ranked.open("w", newline="", encoding="utf-8-sig") as stream:
        table = csv.DictWriter(stream, rows[0].keys(), delimiter=delimiter)
        table.writeheader()
        table.writerows(rows)


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_labels_filled_in_teach_a_model_by_the_command_that_is_printed(
    delimiter: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = pool(tmp_path / "new images")
    with pytest.raises(SystemExit) as ended:
        cli.main(["mine", "find", *asked(tmp_path, images, "run", "count=9", "range_16bit=[0, 4095]")])
    assert not ended.value.code
    told = capsys.readouterr().out
    fill_in(tmp_path / "run" / "ranked.csv", delimiter=delimiter, most=7)
    command = shlex.split(next(line for line in told.splitlines() if "pangu-cv finetune" in line))
    assert command[:3] == ["pangu-cv", "finetune", "classify"]
    tiny = [f"task.backbone.{one}" for one in NETWORK[:1]]
    tiny += [f"task.backbone.weights={tmp_path / 'ancestor.safetensors'}", "task.preprocess.image_px=64"]
    with pytest.raises(SystemExit) as ended:
        cli.main([*command[1:], *tiny, f"output={tmp_path / 'taught'}"])
    assert not ended.value.code
    assert load_model(tmp_path / "taught" / "model").provenance.decode.range_16bit == (0, 4095)
    dataset = DataConfig(path=tmp_path / "run" / "ranked.csv", root=images).read()
    assert sum(sample.label is not None for sample in dataset) == 7
    assert all(sample.path.stem.startswith(sample.label) for sample in dataset if sample.label)


def test_a_list_with_semicolons_is_a_list_and_its_labels_are_not_overwritten(tmp_path: Path) -> None:
    images = pool(tmp_path / "images")
    ranked = mine(load(*asked(tmp_path, images, "run", "count=4"))).ranked
    fill_in(ranked, delimiter=";")
    with pytest.raises(SettingsError, match="4 labels filled in"):
        mine(load(*asked(tmp_path, images, "run", "count=4")))
    assert mine(load(*asked(tmp_path, images, "two", f"labels={ranked}"))).metrics["labelled"] == 4


def test_rows_carried_from_another_folder_name_the_same_files(tmp_path: Path) -> None:
    first = mine(load(*asked(tmp_path, pool(tmp_path / "one"), "run", "count=3")))
    fill_in(first.ranked)
    others = pool(tmp_path / "two", first=20)
    second = mine(load(*asked(tmp_path, others, "next", "count=3", f"labels={first.ranked}")))
    assert (second.root, second.gone) == (tmp_path, 0)
    third = mine(load(*asked(tmp_path, others, "again", "count=3", f"labels={second.ranked}")))
    labelled = {s.path: s.label for s in DataConfig(path=third.ranked, root=third.root).read() if s.label}
    assert set(labelled) == {first.pool.images[pick.place] for pick in first.picks}
    assert all(path.stem.startswith(label) for path, label in labelled.items())
    shutil.rmtree(tmp_path / "one")
    assert mine(load(*asked(tmp_path, others, "last", "count=3", f"labels={third.ranked}"))).gone == 3


def test_images_named_by_a_way_up_are_named_plainly_in_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = mine(load(*asked(tmp_path, pool(tmp_path / "one"), "run", "count=3")))
    fill_in(first.ranked)
    pool(tmp_path / "two", first=20)
    monkeypatch.chdir(tmp_path / "one")
    second = mine(load(*asked(tmp_path, Path("../two"), "next", "count=3", f"labels={first.ranked}")))
    assert second.root == tmp_path
    named = {sample.path for sample in DataConfig(path=second.ranked, root=second.root).read()}
    assert {path.parents[1] for path in named} == {tmp_path / "one", tmp_path / "two"}


def test_a_list_may_be_mined_again_and_still_names_nothing_outside_its_folder(tmp_path: Path) -> None:
    images = pool(tmp_path / "images")
    found = mine(load(*asked(tmp_path, images, "run", "count=5")))
    again = load(*asked(tmp_path, found.ranked, "again", "count=2", f"root={images}"))
    assert len(mine(again).pool) == 5
    found.ranked.write_text(found.ranked.read_text().replace("line 2/", "/elsewhere/", 1))
    with pytest.raises(DataError, match="leaves the folder"):
        images_of(found.ranked, root=images)
