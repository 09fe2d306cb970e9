"""Rounds of the loop on three colours: to the end, after kills, and with mistakes."""

import base64
import io
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pangu_cv import cli
from pangu_cv.data.config import DataConfig
from pangu_cv.distill import DistillRecipe, DistillResult
from pangu_cv.errors import CertificateError, DataError, SettingsError
from pangu_cv.features import content_digest
from pangu_cv.iterate.answers import AnswerFile
from pangu_cv.iterate.ask import Session
from pangu_cv.iterate.ledger import Ledger
from pangu_cv.iterate.questions import PricesConfig
from pangu_cv.workflows.loop import LoopRecipe, Oracle, rounds, run_loop
from pangu_runtime import certificate, golden
from pangu_runtime.predictor import Predictor
from tests.finetune.tiny import COLOURS, picture, save
from tests.workflows.loops import FROZEN, IMAGES, Person, in_twelve_bits, load, quiet


def test_a_table_answers_and_a_verified_bundle_is_there_at_the_end(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_twelve_bits(tmp_path / "new_images")
    deep = ["range_16bit=[0, 4095]", "precisions=[fp16]"]
    command = ["loop", "power_line", *settings, *deep, f"oracle={tmp_path / 'labels.csv'}"]
    with pytest.raises(SystemExit) as stopped:
        cli.main(command)
    assert not stopped.value.code
    told = capsys.readouterr().out
    home = tmp_path / "loop"
    assert f"pangu-cv watch {home / 'bundle'}" in told
    assert "0 flips" in told
    metrics = json.loads((home / "metrics.json").read_text())
    assert metrics["answered_by"] == "a simulated person (oracle)"
    one, two = metrics["rounds"]
    assert two["asked"]["labelled"] > one["asked"]["labelled"] > 0
    assert two["asked"]["seconds"] > one["asked"]["seconds"] > 0
    assert two["measured"]["summary"]["balanced_accuracy"] > 0.9
    assert metrics["frozen"]["frozen"] == FROZEN
    assert metrics["end"]["verified"]["checked"] == FROZEN
    assert [entry.event for entry in Ledger(home / "ledger.jsonl").entries()] == ["finetune", "update"]
    for precision in ("fp32", "fp16"):
        golden.replay(Predictor(home / "bundle", precision=precision))
    assert metrics["end"]["bundle"]["precisions"]["fp16"]["flips"] == 0
    assert "fp16" in (home / "bundle.report.html").read_text()
    assert Predictor(home / "bundle").bundle.decode.range_16bit == (0, 4095)
    page = (home / "report.html").read_text()
    for words in ("A simulated person answered", "What the answers bought", "Round 2: what was asked", "The ledger"):
        assert words in page
    pictures = re.findall(r'src="data:image/[a-z]+;base64,([^"]+)"', page)
    assert len(pictures) > 30
    assert all(np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))).max() > 100 for one in pictures)
    before = {path: path.stat().st_mtime_ns for path in home.rglob("model.*")}
    with pytest.raises(SystemExit):
        cli.main(command)
    assert before == {path: path.stat().st_mtime_ns for path in home.rglob("model.*")}
    _fp16_flips_three(monkeypatch)
    with pytest.raises(SystemExit):
        cli.main(command)
    assert f"fp16 does not hold its certificate on this machine: 3 of {FROZEN} certified" in capsys.readouterr().err
    again = json.loads((home / "metrics.json").read_text())["end"]["verified"]["precisions"]
    assert {name: (one["flips"], one["holds"]) for name, one in again.items()} == {
        "fp32": (0, True),
        "fp16": (3, False),
    }
    assert "does not hold its certificate on this machine: fp16." in (home / "report.html").read_text()


def _fp16_flips_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor that rounds otherwise."""
    recheck = certificate.recheck

    def flipped(predictor: Predictor, paths: Sequence[Path]) -> certificate.Recheck:
        found = recheck(predictor, paths)
        if predictor.precision == "fp32":
            return found
        return replace(found, difference=replace(found.difference, flips=3))

    monkeypatch.setattr(certificate, "recheck", flipped)


@pytest.mark.usefixtures("_no_end")
def test_what_is_frozen_is_never_learnt_nor_are_copies_of_it(settings: list[str], tmp_path: Path) -> None:
    for path in list((tmp_path / "new_images").iterdir()):
        shutil.copyfile(path, path.with_name(f"copy_{path.name}"))
    recipe = load(settings, f"oracle={tmp_path / 'labels.csv'}")
    run_loop(recipe, people=Person(tmp_path, 0), say=quiet)
    home = tmp_path / "loop"
    frozen = {content_digest(sample.path) for sample in DataConfig(path=home / "frozen").read()}
    assert len(frozen) == FROZEN
    pool = {content_digest(sample.path) for sample in DataConfig(path=home / "pool").read()}
    assert not frozen & pool
    assert len(pool) == IMAGES - FROZEN
    learnt = [sample for sample in DataConfig(path=home / "versions").read() if sample.split == "train"]
    assert learnt
    assert not frozen & {content_digest(sample.path) for sample in learnt}


@pytest.mark.slow
def test_a_precision_that_loses_too_much_is_to_be_taken_out(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pangu_cv.deploy.control.Loss.within", lambda *_: False)
    oracle = f"oracle={tmp_path / 'labels.csv'}"
    recipe = load(settings, "rounds=1", "count=12", "precisions=[fp16]", oracle)
    with pytest.raises(CertificateError, match=r"^fp16 loses .* take fp16 out of precisions$") as refused:
        run_loop(recipe, people=Person(tmp_path, 0), say=quiet)
    assert "--" not in str(refused.value)
    assert run_loop(load(settings, "rounds=1", oracle), people=Person(tmp_path, 0), say=quiet).bundle


@pytest.mark.usefixtures("_no_end")
def test_a_killed_loop_goes_on_and_ends_as_one_that_was_not(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed three times, each time when work is done and before it is noted."""
    oracle, people = f"oracle={tmp_path / 'labels.csv'}", Person(tmp_path, 0)
    done: list[str] = []
    kills = {("mine", 2), ("update", 1), ("measured", 2)}

    def killed_in(name: str) -> None:
        work = getattr(rounds, name)

        def counted(*args: Any) -> Any:
            done.append(name)
            found = work(*args)
            if kills and (name, done.count(name)) in kills:
                raise KeyboardInterrupt
            return found

        monkeypatch.setattr(rounds, name, counted)

    for name in ("mine", "finetune", "update", "measured"):
        killed_in(name)
    for _ in range(len(kills)):
        with pytest.raises(KeyboardInterrupt):
            run_loop(load(settings, oracle), people=people, say=quiet)
    found = run_loop(load(settings, oracle), people=people, say=quiet).metrics
    assert done.count("finetune") == 1
    assert done.count("update") == 1  # the ledger knows
    kills.clear()
    expected = run_loop(load(settings, oracle, f"output={tmp_path / 'whole'}"), people=people, say=quiet).metrics
    figures = [[one["measured"]["summary"] for one in run["rounds"]] for run in (found, expected)]
    assert figures[0] == figures[1]


@pytest.mark.usefixtures("_no_end")
def test_half_a_model_that_no_ledger_knows_is_made_again(settings: list[str], tmp_path: Path) -> None:
    half = tmp_path / "loop" / "round_1" / "learnt" / "model"
    half.mkdir(parents=True)
    (half / "model.json").write_text("{}")
    result = run_loop(load(settings, f"oracle={tmp_path / 'labels.csv'}"), people=Person(tmp_path, 0), say=quiet)
    assert len(result.metrics["rounds"]) == 2
    assert json.loads((half / "model.json").read_text())["classes"]


@pytest.mark.usefixtures("_no_end")
def test_an_update_that_makes_it_worse_is_refused_and_the_model_before_stays(
    settings: list[str], tmp_path: Path
) -> None:
    recipe = load(settings, "count=20")  # many wrong answers after six right ones
    person = Person(tmp_path, 1000)
    run_loop(load(settings, "rounds=1"), people=person, say=quiet)
    turned = dict(zip(sorted(COLOURS), [*sorted(COLOURS)[1:], sorted(COLOURS)[0]], strict=True))
    person.oracle = Oracle({key: turned[name] for key, name in person.oracle.truth.items()}, PricesConfig(), 0)
    result = run_loop(recipe, people=person, say=quiet)
    first, second = result.metrics["rounds"]
    assert second["learnt"]["accepted"] is False
    assert second["learnt"]["model"] == first["learnt"]["model"] == "round_1/learnt"
    assert second["measured"]["summary"] == first["measured"]["summary"]
    assert "Refused, the model before stays" in second["learnt"]["verdict"]
    assert Ledger(tmp_path / "loop" / "ledger.jsonl").entries()[-1].event == "refused"


@pytest.mark.usefixtures("_no_end")
def test_one_round_more_goes_on_and_other_classes_do_not(settings: list[str], tmp_path: Path) -> None:
    oracle = f"oracle={tmp_path / 'labels.csv'}"
    run_loop(load(settings, oracle, "rounds=1"), people=Person(tmp_path, 0), say=quiet)
    moved = tmp_path / "elsewhere"
    (tmp_path / "loop").rename(moved)
    result = run_loop(load(settings, oracle, f"output={moved}"), people=Person(tmp_path, 0), say=quiet)
    assert len(result.metrics["rounds"]) == 2
    with pytest.raises(SettingsError, match=r"classes: the loop in .* has begun with .* Name another output"):
        run_loop(
            load(settings, oracle, f"output={moved}", "classes=[blue, red]"), people=Person(tmp_path, 0), say=quiet
        )


@pytest.mark.usefixtures("_no_end")
@pytest.mark.parametrize("mistake", ["images={}/imgs_typo", "gate_images=35", "gate.path={}/new_images"])
def test_a_mistake_before_anything_is_frozen_may_be_mended(mistake: str, settings: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError):
        run_loop(load(settings, mistake.format(tmp_path)), people=Person(tmp_path, 0), say=quiet)
    result = run_loop(load(settings), people=Person(tmp_path, 0), say=quiet)
    assert "frozen set" in str(result.open)


@pytest.mark.usefixtures("_no_end")
def test_a_frozen_set_of_one_class_may_grow_and_no_answer_is_lost(settings: list[str], tmp_path: Path) -> None:
    person, home = Person(tmp_path, 1000), tmp_path / "loop"
    colours = person.oracle.truth
    person.oracle = Oracle(dict.fromkeys(colours, "blue"), PricesConfig(), 0)
    few = load(settings, "gate_images=3", "rounds=1")
    with pytest.raises(DataError, match=r"3 images of fewer than two classes; raise gate_images"):
        run_loop(few, people=person, say=quiet)
    first = AnswerFile(home / "frozen" / "answers.jsonl").read()
    person.oracle = Oracle(colours, PricesConfig(), 0)
    with pytest.raises(DataError, match="leave too few to learn from; lower it"):
        run_loop(load(settings, "gate_images=35", "rounds=1"), people=person, say=quiet)
    with pytest.raises(SettingsError, match=r"gate_images: 2 is less than the 3 that were drawn"):
        run_loop(load(settings, "gate_images=2", "rounds=1"), people=person, say=quiet)
    person.left = FROZEN - len(first)
    result = run_loop(load(settings, "rounds=1"), people=person, say=quiet)
    assert result.metrics["frozen"]["frozen"] == FROZEN
    answers = AnswerFile(home / "frozen" / "answers.jsonl").read()
    assert list(answers[:3]) == list(first)
    assert len({answer.sha256 for answer in answers}) == len(answers) == FROZEN
    with pytest.raises(SettingsError, match=r"gate_images: the loop in .* has begun with 9"):
        run_loop(load(settings, "gate_images=12", "rounds=1"), people=person, say=quiet)


@pytest.mark.usefixtures("_no_end")
def test_a_frozen_set_may_be_brought_and_unknown_classes_count_as_never_found(
    settings: list[str], tmp_path: Path
) -> None:
    for number, name in enumerate(sorted(COLOURS) * 4):
        save(tmp_path / "gate" / name / f"{number}.png", picture(COLOURS[name], 900 + number))
    settings = [one for one in settings if not one.startswith("gate_images")]
    no_red = [path for path in sorted((tmp_path / "new_images").iterdir()) if int(path.stem) % 3 == 2]
    for path in no_red:
        path.unlink()
    table = (tmp_path / "labels.csv").read_text().splitlines()
    (tmp_path / "labels.csv").write_text("\n".join(line for line in table if not line.endswith(",red")))
    groups = "".join(f"{name}/{number}.png,lot {number // 3}\n" for number, name in enumerate(sorted(COLOURS) * 4))
    (tmp_path / "groups.csv").write_text(f"file,group\n{groups}")
    more = [f"gate.path={tmp_path / 'gate'}", f"gate.groups={tmp_path / 'groups.csv'}"]
    more += [f"oracle={tmp_path / 'labels.csv'}"]
    result = run_loop(load(settings, *more), people=Person(tmp_path, 0), say=quiet)
    measured = result.metrics["rounds"][-1]["measured"]
    assert measured["knows"] == ["blue", "green"]
    recall = dict(zip(measured["summary"]["classes"], measured["summary"]["recall_per_class"], strict=True))
    assert recall["red"] == 0
    assert measured["summary"]["intervals"]["accuracy"]["n"] == 4  # lots of three images
    assert measured["summary"]["balanced_accuracy"] <= 2 / 3
    assert result.metrics["frozen"]["seconds"] == 0
    assert not (tmp_path / "loop" / "frozen" / "drawn").exists()


def test_a_smaller_model_is_asked_for_measured_and_exported(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the stage does is tested there; here a copy of the model stands for the smaller one."""
    asked: list[DistillRecipe] = []

    def copied(recipe: DistillRecipe) -> DistillResult:
        asked.append(recipe)
        folder = Path(str(recipe.output))
        shutil.copytree(Path(recipe.model) / "model", folder / "model")
        cost = {"ms": 1.0, "params_m": 0.2, "size_mb": 0.8}
        metrics = {"teacher": cost, "student": cost, "ratio": 1.0, "agreement": {"same": 1.0, "images": 4}}
        return DistillResult(folder, folder / "model", folder / "report.html", metrics | {"within": True})

    monkeypatch.setattr("pangu_cv.workflows.loop.finish.distill", copied)
    wish = "distill={budget: {params_m: 0.29}, student: {kind: timm, name: test_efficientnet, weights: random}}"
    recipe = load(settings, wish, "rounds=1", "count=12", f"oracle={tmp_path / 'labels.csv'}")
    result = run_loop(recipe, people=Person(tmp_path, 0), say=quiet)
    (wanted,) = asked
    assert wanted.budget.params_m == 0.29
    assert {sample.path.name for sample in wanted.data.read()} == {
        sample.path.name for sample in DataConfig(path=tmp_path / "loop" / "pool").read()
    }
    assert result.metrics["end"]["smaller"]["measured"]["summary"]["images"] == FROZEN
    assert result.metrics["end"]["bundle"]["model"] == "smaller"
    assert result.bundle is not None
    assert Predictor(result.bundle).bundle.classes == tuple(sorted(COLOURS))
    assert "The smaller model" in result.report.read_text()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["classes=[blue]"], "classes"),
        (["classes=[blue, blue]"], "every class needs a name of its own"),
        (["gate_images=40"], "leave too few to learn from"),
        (["rounds=1", "oracle=nowhere.csv"], "does not exist"),
    ],
)
def test_mistakes_are_told(more: list[str], told: str, settings: list[str], tmp_path: Path) -> None:
    with pytest.raises((SettingsError, DataError), match=told):
        run_loop(load(settings, *more), people=Person(tmp_path, 1000), say=quiet)


@pytest.mark.usefixtures("_no_end")
def test_a_step_that_was_edited_is_named(settings: list[str], tmp_path: Path) -> None:
    recipe = load(settings, "rounds=1", f"oracle={tmp_path / 'labels.csv'}")
    run_loop(recipe, people=Person(tmp_path, 0), say=quiet)
    step = tmp_path / "loop" / "round_1" / "asked.json"
    step.write_text("{")
    with pytest.raises(DataError, match=r"asked\.json: is not as it was written .* its step is done again"):
        run_loop(recipe, people=Person(tmp_path, 0), say=quiet)
    step.unlink()
    assert len(run_loop(recipe, people=Person(tmp_path, 0), say=quiet).metrics["rounds"]) == 1


@pytest.mark.usefixtures("_no_end")
@pytest.mark.parametrize("left", [b"", b"images: [", b"\x00\xff\x00", b"images: here"])
def test_a_damaged_recipe_is_named(left: bytes, settings: list[str], tmp_path: Path) -> None:
    kept = tmp_path / "loop" / "recipe.yaml"
    kept.parent.mkdir()
    kept.write_bytes(left)
    with pytest.raises(DataError, match=r"recipe\.yaml: is no recipe of a loop; remove it"):
        run_loop(load(settings), people=Person(tmp_path, 0), say=quiet)
    kept.unlink()
    assert run_loop(load(settings), people=Person(tmp_path, 0), say=quiet).open


@pytest.mark.usefixtures("_no_end")
def test_one_process_runs_a_loop_at_a_time(settings: list[str], tmp_path: Path) -> None:
    refused: list[str] = []

    def people(session: Session) -> None:
        with pytest.raises(DataError, match="another process runs this loop") as error:
            run_loop(load(settings, "rounds=5"), people=Person(tmp_path, 0), say=quiet)
        refused.append(str(error.value))

    people.name = "anna"  # type: ignore[attr-defined]
    run_loop(load(settings), people=people, say=quiet)  # type: ignore[arg-type]
    assert len(refused) == 1
    assert load(settings).rounds == LoopRecipe.load(tmp_path / "loop" / "recipe.yaml").rounds
    assert run_loop(load(settings), people=Person(tmp_path, 0), say=quiet).open  # it was let go
