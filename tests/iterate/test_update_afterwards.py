"""What comes after an update: its export, what the ledger says of it, and its folder may be lost."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pangu_cv import cli
from pangu_cv.data.config import DataConfig
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.data.versions import read_version, write_version
from pangu_cv.errors import DataError
from pangu_cv.iterate.ledger import Entry, Ledger
from pangu_cv.iterate.recipe import UpdateRecipe
from pangu_cv.iterate.records import BEGUN, Records
from pangu_cv.tasks.saved import load_model
from pangu_cv.verbs.export import _dataset_of_run, _wanted
from pangu_cv.verbs.update import update as update_verb
from tests.finetune.tiny import Made
from tests.iterate.updating import RED, folder, run

pytestmark = pytest.mark.usefixtures("_pages_on_demand")


def test_an_update_whose_folder_was_lost_is_made_again_if_asked(start: Path, tmp_path: Path) -> None:
    for number in range(3):
        if number:
            shutil.rmtree(tmp_path / "next")
            with pytest.raises(DataError, match="say --fork"):
                run(start, tmp_path)
        run(start, tmp_path, fork=number > 0)
    with pytest.raises(DataError, match="this very update was given before"):
        run(start, tmp_path, output=tmp_path / "twice", fork=True)
    ids = [entry.id for entry in Ledger(tmp_path / "ledger.jsonl").entries() if entry.event == "update"]
    assert len(set(ids)) == len(ids) == 3


def test_the_export_it_prints_certifies_on_the_frozen_set(
    start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = shutil.copytree(start / "gate", tmp_path / "gate" / "test")
    folder(tmp_path / "gate" / "train", 900, red=RED)  # which measures nothing
    held = {"gate": {"path": tmp_path / "gate"}, "fork": True}
    taught = run(start, tmp_path, output=tmp_path / "taught", **held)
    named = run(start, tmp_path, output=tmp_path / "named", data=None, rename={"red": "scarlet"}, **held)
    for result in (taught, named):
        assert {sample.path for sample in _dataset_of_run(result.folder)} == set(gate.rglob("*.png"))
    with pytest.raises(SystemExit) as stopped:
        cli.main(["export", str(named.folder), "--out", str(tmp_path / "bundle"), "--json"])
    assert not stopped.value.code
    assert json.loads(capsys.readouterr().out)["images"] == 15
    (named.folder / "metrics.json").unlink()
    with pytest.raises(DataError, match="does not name the update's frozen set; give --images"):
        _dataset_of_run(named.folder)


def test_int8_is_fitted_to_what_the_update_learnt_never_to_the_frozen_set(start: Path, tmp_path: Path) -> None:
    held = {"gate": {"path": shutil.copytree(start / "gate", tmp_path / "gate" / "test").parent}}
    cases = folder(tmp_path / "hard", 700, 2, red=RED)
    taught = run(start, tmp_path, hard={"path": cases}, **held)
    fitted = {sample.path for sample in _wanted(("int8",), None, None, taught.folder).samples}
    assert fitted == {*(start / "new").rglob("*.png"), *cases.rglob("*.png")}
    named = run(start, tmp_path, output=tmp_path / "named", data=None, rename={"red": "scarlet"}, fork=True, **held)
    with pytest.raises(DataError, match="an update that learnt no images; give --calibrate"):
        _wanted(("int8",), None, None, named.folder)


def test_a_root_is_for_tables_alone(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "list" / "new.csv"
    table.parent.mkdir()
    table.write_text("file,label\n" + "".join(f"green/{number}.png,green\n" for number in range(4)))
    frozen = DataConfig(path=start / "gate").read()
    gate = write_version(tmp_path / "gate", Dataset(frozen.root, "class_folders", frozen.samples)).folder
    asked: list[UpdateRecipe] = []

    def kept(recipe: UpdateRecipe) -> None:
        asked.append(recipe)
        raise DataError("enough")

    monkeypatch.setattr("pangu_cv.verbs.update.run_update", kept)
    with pytest.raises(DataError, match="enough"):
        update_verb(start / "start", out=tmp_path / "next", data=table, gate=gate, root=start / "new")
    (recipe,) = asked
    assert recipe.data is not None
    assert recipe.gate is not None
    assert {sample.path for sample in recipe.data.read()} == set((start / "new").rglob("*.png"))
    assert {sample.path for sample in recipe.gate.read()} == set((start / "gate").rglob("*.png"))


def test_the_ledger_begins_with_what_made_the_first_model(start: Path, classify: Made, tmp_path: Path) -> None:
    first = run(start, tmp_path)
    run(start, tmp_path, model=first.folder, output=tmp_path / "more", data=None, rename={"red": "scarlet"})
    begun, one, two = Ledger(tmp_path / "ledger.jsonl").entries()
    assert (begun.event, one.event, two.event) == (BEGUN, "update", "update")
    assert begun.facts["model_out"] == one.facts["model_in"]
    assert one.facts["model_out"] == two.facts["model_in"]
    assert begun.facts["data"]["path"] == str(classify.data.resolve())
    assert begun.facts["data_hash"] == load_model(start / "start" / "model").provenance.data_hash
    assert begun.facts["output"] == str(start / "start")


def test_the_line_of_the_first_model_hides_no_frozen_set(start: Path, tmp_path: Path) -> None:
    """In a ledger of before there were such lines it comes after updates."""
    run(start, tmp_path)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    begun, first = ledger.entries()
    ledger.path.unlink()
    for entry in (first, begun):
        ledger.append(entry.event, **entry.facts)
    known = Records.at(ledger, start / "start" / "model").gate
    assert known is not None
    assert known["images"] == 15


def test_the_first_model_is_told_once_whoever_else_writes(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another update tells it when this one has seen that nobody has, and has not written yet."""
    append = Ledger.append

    def after_another(self: Ledger, event: str, **rest: Any) -> Entry:
        if event == BEGUN:
            append(self, BEGUN, model_out=rest["model_out"])
        return append(self, event, **rest)

    monkeypatch.setattr(Ledger, "append", after_another)
    run(start, tmp_path)
    assert [entry.event for entry in Ledger(tmp_path / "ledger.jsonl").entries()] == [BEGUN, "update"]


def test_a_version_is_named_not_the_folder_that_more_will_come_into(start: Path, tmp_path: Path) -> None:
    samples = [Sample(path, label="green") for path in sorted((start / "new" / "green").iterdir())]
    for count in (2, 4):
        version = write_version(tmp_path / "versions", Dataset(start / "new", "images", tuple(samples[:count])))
    result = run(start, tmp_path, data={"path": tmp_path / "versions"})
    assert result.metrics["data"]["path"] == str(tmp_path / "versions" / "v0002")
    assert result.metrics["data"]["version"] == version.digest == read_version(version.folder).digest
    assert result.metrics["gate"]["version"] is None
