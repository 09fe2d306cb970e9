"""What an update learns, refuses and writes down."""

import getpass
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from pangu_cv import cli
from pangu_cv.data.config import DataConfig
from pangu_cv.errors import DataError, RegressionError, SettingsError
from pangu_cv.evaluate import TorchDecider
from pangu_cv.iterate import update as stage
from pangu_cv.iterate import update_classes
from pangu_cv.iterate.hard_cases import WeightTrial, choose_weight
from pangu_cv.iterate.ledger import Ledger
from pangu_cv.tasks.saved import load_model
from tests.finetune.test_classify import self_contained, strict
from tests.finetune.tiny import picture, save
from tests.iterate.updating import BLUE, GREEN, RED, entries, folder, run

pytestmark = pytest.mark.usefixtures("_pages_on_demand")


def test_a_new_class_is_learnt_without_the_old_images(start: Path, tmp_path: Path, with_page: None) -> None:
    result = run(start, tmp_path)
    saved = load_model(result.model)
    assert saved.model.classes == ("blue", "red", "green")  # the old ones keep their numbers
    answers = TorchDecider(saved.model).run(np.stack([picture(c, 9999) for c in (BLUE, RED, GREEN)]))
    assert answers["label"].tolist() == [0, 1, 2]
    metrics = strict(result.folder / "metrics.json")
    assert metrics["accepted"] is True
    assert metrics["gate"]["figures"]["balanced_accuracy"] == {"before": 1.0, "after": 1.0}
    assert metrics["gate"]["images"] == 15
    assert metrics["gate"]["compared"] == 10  # of classes known before
    assert metrics["after"]["images"] == 15
    assert metrics["counts_after"] == {"blue": 4, "red": 4, "green": 4}
    page = result.report.read_text()
    assert self_contained(page)
    assert "Accepted" in page
    assert "new class" in page
    [_, (event, facts)] = entries(tmp_path)
    assert event == "update"
    assert facts["learnt"] == {"green": 4}
    assert facts["by"] == "a test"
    assert facts["gate"]["passes"] is True
    assert facts["data"]["counts"] == {"green": 4}
    assert len(facts["model_in"]) == len(facts["model_out"]) == 64


def test_groups_of_frozen_images_are_drawn_together(start: Path, tmp_path: Path) -> None:
    """The images of the new class, which are not compared, come first: groups stay with their images."""
    names = sorted(path.relative_to(start / "gate").as_posix() for path in (start / "gate").rglob("*.png"))
    groups = {name: name.split("/")[0] if "green" in name else f"{name[0]}{at % 2}" for at, name in enumerate(names)}
    table = tmp_path / "groups.csv"
    table.write_text("file,group\n" + "".join(f"{name},{group}\n" for name, group in groups.items()))
    result = run(start, tmp_path, gate={"path": start / "gate", "groups": table})
    found = result.metrics["comparison"]["differences"]["balanced_accuracy"]["difference"]
    assert (result.metrics["gate"]["compared"], found["n"]) == (10, 4)
    assert result.metrics["after"]["intervals"]["balanced_accuracy"]["n"] == 5


def test_groups_of_new_images_are_remembered(start: Path, tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("file,group\ngreen/20.png,burst\ngreen/21.png,burst\n")
    data = folder(tmp_path / "more", 20, green=GREEN)
    result = run(start, tmp_path, data={"path": data, "groups": table})
    known = load_model(result.model).memory.known.values()  # type: ignore[union-attr]
    assert sorted(one.group for one in known if one.classes == ("green",)) == ["", "", "burst", "burst"]


def test_in_steps_it_decides_as_learnt_at_once(start: Path, tmp_path: Path) -> None:
    """Green, then more of red; against both at once, with the same statistics."""
    folder(tmp_path / "red", 20, red=RED)
    one = run(start, tmp_path / "a")
    two = run(start, tmp_path / "b", model=one.folder, data={"path": tmp_path / "red"})
    both = shutil.copytree(start / "new", tmp_path / "both")
    shutil.copytree(tmp_path / "red" / "red", both / "red")
    at_once = run(start, tmp_path / "c", data={"path": both})
    images = np.stack([picture(c, 70 + n) for n, c in enumerate((BLUE, RED, GREEN))])
    found, expected = (TorchDecider(load_model(r.model).model).run(images)["scores"] for r in (two, at_once))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    again = load_model(two.model).memory
    assert again is not None
    assert again.counts == {"blue": 4, "red": 8, "green": 4}


def test_what_makes_it_worse_is_refused_and_leaves_no_model(start: Path, tmp_path: Path, with_page: None) -> None:
    wrong = folder(tmp_path / "wrong", 40, 12, red=BLUE)
    before = (start / "start" / "model" / "model.json").read_bytes()
    with pytest.raises(RegressionError, match="worse and was refused: 10 frozen images") as refused:
        run(start, tmp_path, data={"path": wrong})
    assert refused.value.exit_code == 1
    assert not (tmp_path / "next" / "model").exists()
    assert (start / "start" / "model" / "model.json").read_bytes() == before
    assert "Refused" in (tmp_path / "next" / "report.html").read_text()
    assert strict(tmp_path / "next" / "metrics.json")["accepted"] is False
    [_, (event, facts)] = entries(tmp_path)
    assert event == "refused"
    assert facts["gate"]["passes"] is False
    assert facts["gate"]["lost"] >= 1
    with pytest.raises(DataError, match=r"this very update was given before, .* and was refused"):
        run(start, tmp_path, data={"path": wrong}, output=tmp_path / "again")
    allowed = run(start, tmp_path, data={"path": wrong}, output=tmp_path / "again", max_drop=0.99)
    assert allowed.model.is_dir()


def test_hard_cases_are_weighed(start: Path, tmp_path: Path, with_page: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dim reds that the model takes for something else."""
    tried: list[WeightTrial] = []
    monkeypatch.setattr(update_classes, "choose_weight", lambda *given: tried.extend(choose_weight(*given)) or tried)
    hard = folder(tmp_path / "hard", 0, 6, red=(70, 50, 110))
    result = run(start, tmp_path, data=None, hard={"path": hard}, max_drop=0.99)
    metrics = strict(result.folder / "metrics.json")
    assert metrics["hard_learnt"] == {"red": 6}
    assert [one.weight for one in tried if one.is_chosen] == [metrics["hard_weight"]]
    assert "How much a hard case weighs" in result.report.read_text()
    memory = load_model(result.model).memory
    assert memory is not None
    assert [one.weight for one in memory.known.values() if one.is_hard] == [metrics["hard_weight"]] * 6
    image = picture((70, 50, 110), 12345)[None]
    scores = [
        float(TorchDecider(load_model(m).model).run(image)["scores"][0, 1])
        for m in (start / "start" / "model", result.model)
    ]
    assert scores[1] > scores[0]
    fixed = run(start, tmp_path / "w", data=None, hard={"path": hard}, hard_weight=3, max_drop=0.99)
    assert fixed.metrics["hard_weight"] == 3
    fixed_memory = load_model(fixed.model).memory
    assert fixed_memory is not None
    assert {one.weight for one in fixed_memory.known.values() if one.is_hard} == {3}
    strange = folder(tmp_path / "strange", 0, violet=(120, 0, 200))
    with pytest.raises(DataError, match="does not know violet"):
        run(start, tmp_path / "s", data=None, hard={"path": strange})


def test_the_same_update_twice(start: Path, tmp_path: Path) -> None:
    first = run(start, tmp_path)
    with pytest.raises(DataError, match="updated already, by a test"):
        run(start, tmp_path, output=tmp_path / "twice")
    with pytest.raises(DataError, match="this very update was given before"):
        run(start, tmp_path, output=tmp_path / "twice", fork=True)
    with pytest.raises(DataError, match="nothing new to learn: all images have been learnt already"):
        run(start, tmp_path, output=tmp_path / "twice", model=first.folder)
    with pytest.raises(SettingsError, match="holds a model already"):
        run(start, tmp_path)
    assert not (tmp_path / "twice").exists()
    assert [event for event, _ in entries(tmp_path)] == ["begun", "update"]


def test_two_people_updating_at_once(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second began before the first went in, and is told at its end; into one folder, at its start."""

    def slow(*_: object, **__: object) -> None:
        monkeypatch.setattr(stage, "update_report", lambda *_, **__: None)
        other = {"path": folder(tmp_path / "other", 60, green=GREEN)}
        with pytest.raises(SettingsError, match=r"another process is writing to '.*next' now"):
            run(start, tmp_path, data=other)
        run(start, tmp_path, data=other, output=tmp_path / "quicker")

    monkeypatch.setattr(stage, "update_report", slow)
    with pytest.raises(DataError, match="updated already"):
        run(start, tmp_path)
    assert not (tmp_path / "next" / "model").exists()
    assert (tmp_path / "quicker" / "model").is_dir()
    assert [event for event, _ in entries(tmp_path)] == ["begun", "update"]


def test_a_ledger_edited_by_hand_stops_it(start: Path, tmp_path: Path) -> None:
    first = run(start, tmp_path)
    path = tmp_path / "ledger.jsonl"
    path.write_text(path.read_text().replace("a test", "nobody"))
    more = folder(tmp_path / "more", 70, green=GREEN)
    with pytest.raises(DataError, match="line 1 was edited"):
        run(start, tmp_path, model=first.folder, data={"path": more}, output=tmp_path / "later")
    assert not (tmp_path / "later").exists()


def test_the_frozen_set_is_remembered_and_may_not_change(start: Path, tmp_path: Path) -> None:
    frozen = shutil.copytree(start / "gate", tmp_path / "gate")
    first = run(start, tmp_path, gate={"path": frozen})
    more = folder(tmp_path / "more", 70, green=GREEN)
    later = {"model": first.folder, "data": {"path": more}, "output": tmp_path / "later"}
    (frozen / "red" / "500.png").unlink()  # gone since
    with pytest.raises(SettingsError, match=r"the frozen set has changed: 15 images .*, 14 with"):
        run(start, tmp_path, gate=None, **later)
    shutil.copy(start / "gate" / "red" / "500.png", frozen / "red")
    assert run(start, tmp_path, gate=None, **later).metrics["gate"]["images"] == 15
    save(frozen / "red" / "0.png", picture(RED, 555))
    again = later | {"model": tmp_path / "later", "output": tmp_path / "last"}
    again["data"] = {"path": folder(tmp_path / "most", 80, green=GREEN)}
    assert run(start, tmp_path, gate={"path": frozen}, new_gate=True, **again).metrics["gate"]["images"] == 16


def test_without_a_frozen_set_nothing_is_done(start: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--gate: name a frozen set"):
        run(start, tmp_path, gate=None)


def test_frozen_images_are_never_learnt(start: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="15 images of the frozen set are among those to learn from"):
        run(start, tmp_path, data={"path": start / "gate"})
    learnt = run(start, tmp_path)
    later = {"model": learnt.folder, "output": tmp_path / "later", "new_gate": True}
    with pytest.raises(DataError, match="4 images of the frozen set are among those the model has learnt from"):
        run(start, tmp_path, gate={"path": start / "new"}, **later)


def test_a_class_renamed(start: Path, tmp_path: Path) -> None:
    first = run(start, tmp_path)
    renamed = tmp_path / "renamed"
    shutil.copytree(start / "new" / "green", renamed / "moss")
    folder(renamed, 90, moss=GREEN)
    frozen = shutil.copytree(start / "gate", tmp_path / "gate")
    (frozen / "green").rename(frozen / "moss")
    later = {"model": first.folder, "data": {"path": renamed}, "output": tmp_path / "later"}
    with pytest.raises(DataError, match=r"4 learnt as 'green' and now called 'moss'.*--rename green=moss"):
        run(start, tmp_path, **later)
    result = run(start, tmp_path, gate={"path": frozen}, new_gate=True, rename={"green": "moss"}, **later)
    assert load_model(result.model).model.classes == ("blue", "red", "moss")
    assert result.metrics["counts_after"] == {"blue": 4, "red": 4, "moss": 8}
    assert any("4 of the new images have been learnt already" in note for note in result.metrics["notes"])
    with pytest.raises(DataError, match="no class is called pink"):
        run(start, tmp_path / "n", rename={"pink": "rose"})


def test_a_renamed_class_is_still_guarded(start: Path, tmp_path: Path) -> None:
    """The frozen set calls it what it was called before, now and in later updates."""
    poison = {"path": folder(tmp_path / "poison", 40, 30, blue=RED)}
    with pytest.raises(RegressionError, match="10 frozen images"):
        run(start, tmp_path, data=poison, rename={"red": "crimson"}, output=tmp_path / "worse")
    renamed = run(start, tmp_path, data=None, rename={"red": "crimson"})
    assert renamed.metrics["gate"]["compared"] == 10
    assert not any("crimson" in note for note in renamed.metrics["notes"])
    later = {"model": renamed.folder, "gate": None, "output": tmp_path / "later"}
    with pytest.raises(RegressionError, match="10 frozen images"):
        run(start, tmp_path, data=poison, **later)
    scarlet = run(start, tmp_path, data=None, rename={"crimson": "scarlet"}, **later)
    assert scarlet.metrics["gate"]["names"] == {"crimson": "scarlet", "red": "scarlet"}
    grown = save(shutil.copytree(start / "gate", tmp_path / "gate") / "red" / "0.png", picture(RED, 555)).parents[1]
    later = {"model": scarlet.folder, "gate": {"path": grown}, "new_gate": True, "output": tmp_path / "last"}
    assert run(start, tmp_path, **later).metrics["gate"]["compared"] == 11
    with pytest.raises(SettingsError, match="gives up the name 'blue' and another takes it"):
        run(start, tmp_path / "swap", data=None, rename={"red": "blue", "blue": "red"})


def test_a_name_given_to_another_class_means_in_an_old_frozen_set_the_old_one(start: Path, tmp_path: Path) -> None:
    first = run(start, tmp_path, data=None, rename={"red": "crimson"})
    more = {"path": folder(tmp_path / "more", 0, red=GREEN)}  # a new class of the old name
    later = {"model": first.folder, "data": more, "gate": None}
    result = run(start, tmp_path, output=tmp_path / "later", **later)
    assert load_model(result.model).model.classes == ("blue", "crimson", "red")
    assert result.metrics["gate"]["figures"]["balanced_accuracy"] == {"before": 1.0, "after": 1.0}
    most = {"path": folder(tmp_path / "most", 80, red=GREEN)}
    last = run(start, tmp_path, data=most, gate=None, model=result.folder, output=tmp_path / "last")
    assert any("shows no red" in note for note in last.metrics["notes"])


def test_what_was_refused_does_not_say_which_frozen_set_counts(start: Path, tmp_path: Path) -> None:
    first = run(start, tmp_path)
    easy = folder(tmp_path / "easy", 300, 2, blue=BLUE, red=RED)
    wrong = {"path": folder(tmp_path / "wrong", 40, 12, red=BLUE)}
    later = {"model": first.folder, "gate": {"path": easy}, "output": tmp_path / "later"}
    with pytest.raises(RegressionError):
        run(start, tmp_path, data=wrong, new_gate=True, **later)
    more = {"path": folder(tmp_path / "more", 70, green=GREEN)}
    with pytest.raises(SettingsError, match="the frozen set has changed: 15 images"):
        run(start, tmp_path, data=more, **later)
    assert run(start, tmp_path, data=more, **later | {"gate": None}).metrics["gate"]["images"] == 15


def test_a_label_is_corrected_when_asked(start: Path, tmp_path: Path) -> None:
    wrong = folder(tmp_path / "wrong", 0, 4, green=GREEN)
    save(wrong / "green" / "red.png", picture(RED, 4321))
    first = run(start, tmp_path, data={"path": wrong})
    right = save(tmp_path / "right" / "red" / "it.png", picture(RED, 4321)).parent.parent
    later = {"model": first.folder, "data": {"path": right}, "output": tmp_path / "later"}
    with pytest.raises(DataError, match=r"1 learnt as 'green' and now called 'red'.*--relabel"):
        run(start, tmp_path, **later)
    result = run(start, tmp_path, relabel=True, **later)
    assert result.metrics["counts_after"] == {"blue": 4, "red": 5, "green": 4}
    as_hard = later | {"data": None, "hard": {"path": right}, "output": tmp_path / "as_hard", "fork": True}
    result = run(start, tmp_path, relabel=True, **as_hard)
    assert (result.metrics["corrected"], result.metrics["hard_learnt"]) == (1, {})
    assert result.metrics["counts_after"] == {"blue": 4, "red": 5, "green": 4}
    split = folder(tmp_path / "limes", 0, 2, lime=GREEN)
    result = run(
        start,
        tmp_path,
        relabel=True,
        **later | {"data": {"path": split}, "output": tmp_path / "split", "max_drop": 0.99, "fork": True},
    )
    assert result.metrics["counts_after"] == {"blue": 4, "red": 4, "green": 3, "lime": 2}
    with pytest.raises(DataError, match="hard cases are of classes the model knows, and it does not know lime"):
        run(start, tmp_path, relabel=True, **as_hard | {"hard": {"path": split}, "output": tmp_path / "refused"})


def test_copies_count_once_and_may_not_contradict(start: Path, tmp_path: Path) -> None:
    data = shutil.copytree(start / "new", tmp_path / "new")
    shutil.copy(data / "green" / "0.png", data / "green" / "copy.png")
    result = run(start, tmp_path, data={"path": data})
    assert result.metrics["learnt"] == {"green": 4}
    assert "1 copies of other images" in " ".join(result.metrics["notes"])
    (data / "red").mkdir()
    shutil.copy(data / "green" / "0.png", data / "red" / "same.png")
    with pytest.raises(DataError, match="is the same picture as"):
        run(start, tmp_path / "b", data={"path": data})


def test_damaged_images_are_named_and_left_out(start: Path, tmp_path: Path, with_page: None) -> None:
    data = shutil.copytree(start / "new", tmp_path / "new")
    (data / "green" / "cut.png").write_bytes((data / "green" / "0.png").read_bytes()[:-300])
    (data / "green" / "empty.png").write_bytes(b"")
    result = run(start, tmp_path, data={"path": data})
    assert len(result.metrics["skipped"]) == 2
    assert "cut.png" in result.report.read_text()
    assert result.metrics["learnt"] == {"green": 4}


def test_names_that_look_alike_are_doubted(start: Path, tmp_path: Path) -> None:
    result = run(start, tmp_path, data={"path": folder(tmp_path / "slip", 30, Red=RED)}, max_drop=0.99)
    assert any("shows green, which the model does not know" in note for note in result.metrics["notes"])
    assert any("'Red' is learnt as a new class beside 'red'" in note for note in result.metrics["notes"])


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt("stopped")])
def test_a_killed_write_leaves_no_model_without_a_line(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Ledger, "append", full)
    with pytest.raises(type(error)):
        run(start, tmp_path)
    assert not (tmp_path / "next" / "model").exists()


def test_a_user_without_a_name_may_update(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unnamed() -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr(getpass, "getuser", unnamed)
    run(start, tmp_path, by=None)
    with pytest.raises(DataError, match="updated already, by somebody without a user name"):
        run(start, tmp_path, by=None, output=tmp_path / "later")
    run(start, tmp_path, by="a test", output=tmp_path / "named", fork=True, max_drop=0.2)
    assert [facts["by"] for event, facts in entries(tmp_path) if event == "update"] == ["", "a test"]


def test_a_model_has_one_ledger_wherever_the_next_one_is_written(start: Path, tmp_path: Path) -> None:
    begun = shutil.copytree(start / "start", tmp_path / "runs" / "start")
    both = {"ledger": None, "model": begun}
    first = run(start, tmp_path, output=tmp_path / "out" / "a", **both)
    assert first.ledger == tmp_path / "runs" / "ledger.jsonl"
    with pytest.raises(DataError, match="this model was updated already"):
        run(start, tmp_path, output=tmp_path / "elsewhere" / "b", **both)
    more = {"data": {"path": folder(tmp_path / "more", 70, green=GREEN)}, "output": tmp_path / "elsewhere" / "b"}
    frozen = shutil.copytree(start / "gate", tmp_path / "gate")
    (frozen / "red" / "500.png").unlink()
    with pytest.raises(SettingsError, match="the frozen set has changed"):
        run(start, tmp_path, gate={"path": frozen}, **both | more | {"model": first.model})
    assert run(start, tmp_path, gate=None, **both | more | {"model": first.folder}).ledger == first.ledger


def test_beside_a_model_that_is_read_only_no_ledger_begins(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # whoever runs the tests may be allowed everything
    with pytest.raises(SettingsError, match="is read-only; name one: --ledger"):
        run(start, tmp_path, ledger=None)


def shell(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(a) for a in arguments])
    return int(stopped.value.code or 0)


def test_the_shell(start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gate = ("--gate", start / "gate")
    out = tmp_path / "next"
    ledger = ("--ledger", tmp_path / "ledger.jsonl")
    assert shell("update", start / "start", "--data", start / "new", *gate, "--out", out, *ledger, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ledger_head"] == Ledger(tmp_path / "ledger.jsonl").head
    wrong = folder(tmp_path / "wrong", 40, 12, red=BLUE)
    assert shell("update", out, "--data", wrong, "--out", tmp_path / "worse", "--rename", "x") == 2
    assert shell("update", out, "--data", wrong, "--out", tmp_path / "worse") == 1
    assert "No model was written" in capsys.readouterr().err
    assert shell("update", start / "start", *gate, "--out", tmp_path / "none", "--fork") == 2
    assert shell("update", start / "start", "--data", tmp_path / "gone", *gate, "--out", tmp_path / "none") == 2
    assert "Traceback" not in capsys.readouterr().err
    assert DataConfig(path=wrong).read().classes == ("red",)
