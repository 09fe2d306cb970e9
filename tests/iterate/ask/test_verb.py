"""``pangu-cv ask`` from its flags to the command that it prints at the end."""

import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pangu_cv import cli
from pangu_cv.data.changes import Change
from pangu_cv.data.versions import Version, read_version, write_version
from pangu_cv.features import content_digest
from pangu_cv.finetune import FinetuneRecipe
from pangu_cv.finetune.classify import draws_for
from pangu_cv.iterate.answers import Answer, AnswerFile
from pangu_cv.iterate.ask.history import PSEUDO
from pangu_cv.iterate.ask.prepare import prepare
from pangu_cv.iterate.ask.version import version_of
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.recipes import find
from pangu_cv.verbs import ask as verb
from tests.finetune.tiny import COLOURS, Made, picture, save
from tests.iterate.updating import BLUE, GREEN, RED, folder

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve images, a network that is quick, and this folder to run in."""
    tiny = BackboneConfig(name="test_efficientnet", weights="random")
    monkeypatch.setattr("pangu_cv.iterate.ask.prepare.BackboneConfig", lambda: tiny)
    monkeypatch.chdir(tmp_path)
    for at, colour in enumerate((RED, BLUE, GREEN) * 4):
        save(tmp_path / "new images" / f"{at}.png", picture(colour, 700 + at))
    return tmp_path


def said(images: Path, words: dict[int, str]) -> None:
    """Anna has named these."""
    file = AnswerFile(Path("answers.jsonl"))
    for at, klass in words.items():
        path = images / f"{at}.png"
        file.append(Answer(path.name, content_digest(path), klass, "label", "anna", 1.0))


def run(capsys: Capture, *words: object) -> tuple[int, str, str]:
    """Exit code, output, errors."""
    code: Any = 0
    try:
        cli.main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code or 0
    out, err = capsys.readouterr()
    return int(code), out, err


def following(out: str) -> list[str]:
    """The words of the command that comes next."""
    (line,) = (line for line in out.splitlines() if line.startswith("Next: pangu-cv "))
    return shlex.split(line.removeprefix("Next: pangu-cv ").split("   (")[0])


COLOUR_OF = {at: ("red", "blue", "green")[at % 3] for at in range(12)}


def test_every_answer_is_learnt_by_the_command_that_comes_next(here: Path, capsys: Capture) -> None:
    said(here / "new images", {at: name for at, name in COLOUR_OF.items() if at < 11})
    code, out, _ = run(capsys, "ask", "new images", "--classes", "red,blue,green", "--no-ask", "--range-16bit", 0, 4095)
    assert code == 0
    code, out, _ = run(capsys, *following(out))
    assert code == 0
    assert read_version(Path("new images_versions/v0001")).dataset.samples[0].label == "red"
    finetune, task, *settings = following(out)
    assert (finetune, task) == ("finetune", "classify")
    recipe = FinetuneRecipe.load(find("finetune", "classify"), settings)
    assert recipe.data.range_16bit == (0, 4095)
    (draw,) = draws_for(recipe, recipe.task, recipe.data.read())
    assert len(draw.support) + len(draw.test) == 11


def test_a_model_learns_on_and_names_its_gate_once(
    here: Path, capsys: Capture, classify: Made, with_page: None
) -> None:
    shutil.copytree(classify.run, here / "start")
    folder(here / "gate", 500, 5, blue=BLUE, green=GREEN, red=RED)
    said(here / "new images", COLOUR_OF)
    asked = ["ask", "new images", "--classes", "red,blue,green", "--no-ask", "--out", "versions", "--model"]
    _, out, _ = run(capsys, *asked, "start")
    command = following(out)
    assert command[command.index("--gate") + 1] == "FROZEN"
    code, _, err = run(capsys, *(word.replace("FROZEN", "gate") for word in command))
    assert (code, err) == (0, "")
    _, out, _ = run(capsys, *asked, "runs/next")
    assert following(out) == ["update", "runs/next", "--data", "versions/v0001", "--out", "runs/next"]


def test_a_model_that_only_sees_is_not_updated(here: Path, capsys: Capture, anomaly: Made) -> None:
    said(here / "new images", COLOUR_OF)
    asked = ["ask", "new images", "--classes", "red,blue,green", "--no-ask", "--out", "versions"]
    _, out, _ = run(capsys, *asked, "--model", anomaly.run)
    assert following(out)[:2] == ["finetune", "classify"]


def test_what_is_gone_is_told(here: Path, capsys: Capture) -> None:
    said(here / "new images", {0: "red", 1: "blue"})
    asked = ["--classes", "red,blue,green", "--no-ask", "--out", "versions"]
    run(capsys, "ask", "new images", *asked)
    (here / "new images" / "0.png").unlink()
    said(here / "new images", {2: "green"})
    _, out, _ = run(capsys, "ask", "versions", *asked)
    assert "! 1 images are gone since" in out
    assert "! 1 of them stay in the version as missing, with their labels" in out
    assert [sample.label for sample in read_version(Path("versions/v0002")).missing] == ["red"]


def test_versions_of_another_dataset_are_not_mixed_in_before_anybody_is_asked(
    here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["--classes", "red,blue,green", "--out", "versions"]
    run(capsys, "ask", "new images", *asked, "--no-ask")
    save(here / "others" / "0.png", picture(COLOURS["red"], 1))
    monkeypatch.setattr(verb, "ask_in_terminal", lambda *_, **__: pytest.fail("asked"))
    code, _, err = run(capsys, "ask", "others", *asked)
    assert code == 2
    assert "none of those in 'others' is among them" in err
    assert "--out" in err


def test_how_much_is_checked_can_be_said(here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, float]] = []

    def asks(session: Any, **_: object) -> None:
        seen.append((session.config.checks.count, session.config.checks.most_wrong))

    monkeypatch.setattr(verb, "ask_in_terminal", asks)
    asked = ["ask", "new images", "--classes", "red,blue,green"]
    assert run(capsys, *asked, "--check", 7, "--most-wrong", 0.2)[0] == run(capsys, *asked)[0] == 0
    assert seen == [(7, 0.2), (40, 0.01)]
    code, _, err = run(capsys, *asked, "--check", -1, "--most-wrong", 1)
    assert code == 2
    assert "checks.count" in err
    assert "checks.most_wrong" in err


def test_twelve_bits_are_seen_by_people_as_by_the_network(here: Path, capsys: Capture, classify: Made) -> None:
    for at, value in enumerate((300, 2000, 4095)):
        path = here / "deep" / f"{at}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((20, 24), value, np.uint16)).save(path)
    ready = prepare(here / "deep", classes=("a", "b"), model=None, root=None, range_16bit=(0, 4095))
    assert ready.subject.decode_spec.range_16bit == (0, 4095)
    dark = prepare(here / "deep", classes=("a", "b"), model=None, root=None)
    assert not np.allclose(dark.subject.features_ND, ready.subject.features_ND)
    code, _, err = run(capsys, "ask", "deep", "--model", classify.run, "--no-ask", "--range-16bit", 0, 4095)
    assert code == 2
    assert "has learnt from images read at 0 to 65535" in err
    assert prepare(here / "deep", classes=(), model=classify.run, root=None, range_16bit=(0, 65535)).saved
    code, _, err = run(capsys, "ask", "deep", "--classes", "a,b", "--no-ask", "--range-16bit", 9, 5)
    assert code == 2
    assert "0 <= low < high" in err


CLASSES = ("--classes", "red,blue,green", "--no-ask", "--out")


def mended(folder: Path, **labels: str | None) -> Version:
    """As ``inspect --collect`` writes it: Ben says that images are something else."""
    parent = version_of(folder)
    assert parent
    told = {sample.path.name: sample.label for sample in parent.dataset}
    new = {f"{name.removeprefix('x')}.png": label for name, label in labels.items()}
    samples = tuple(replace(one, label=new.get(one.path.name, one.label)) for one in parent.dataset)
    changes = [Change(name, "label", told[name], label, "ben") for name, label in new.items()]
    return write_version(folder, replace(parent.dataset, samples=samples), parent=parent, changes=changes)


def labels_in(folder: Path) -> dict[str, str | None]:
    version = version_of(folder)
    assert version
    return {sample.path.name: sample.label for sample in version.dataset}


def test_a_correction_holds_against_the_answers_before_it(here: Path, capsys: Capture) -> None:
    out = Path("versions")
    said(here / "new images", {0: "red", 1: "blue", 2: "green"})
    path = here / "new images" / "3.png"
    AnswerFile(Path("answers.jsonl")).append(Answer(path.name, content_digest(path), "red", "no", "anna", 1.0))
    run(capsys, "ask", "new images", *CLASSES, out)
    mended(out, x0="green", x1=None)
    code, told, _ = run(capsys, "ask", out, *CLASSES, out)
    assert code == 0
    assert "! 2 answers do not count: the version has another label since" in told
    assert (labels_in(out)["0.png"], labels_in(out)["1.png"], labels_in(out)["2.png"]) == ("green", None, "green")
    assert sorted(entry.name for entry in out.iterdir()) == ["v0001", "v0002"], "nothing is new"
    said(here / "new images", {0: "blue"})  # a later word
    run(capsys, "ask", out, *CLASSES, out)
    last = read_version(out / "v0003")
    assert [(one.image, one.field, one.before, one.after) for one in last.changes] == [
        ("0.png", "label", "green", "blue")
    ]
    run(capsys, "ask", out, *CLASSES, out)
    assert not (out / "v0004").exists()


def test_an_answer_that_no_version_has_yet_counts_after_changes_of_others(here: Path, capsys: Capture) -> None:
    out = Path("versions")
    said(here / "new images", {0: "red", 1: "blue"})
    run(capsys, "ask", "new images", *CLASSES, out)
    said(here / "new images", {0: "green"})
    mended(out, x1="red")
    run(capsys, "ask", out, *CLASSES, out)
    assert (labels_in(out)["0.png"], labels_in(out)["1.png"]) == ("green", "red")


def test_labels_of_the_machine_are_no_peoples_until_a_person_gives_them(here: Path, capsys: Capture) -> None:
    out, machine = Path("versions"), "pangu-cv ask"
    said(here / "new images", {0: "red", 1: "blue", 2: "green"})
    run(capsys, "ask", "new images", *CLASSES, out)
    first = version_of(out)
    assert first
    taken = ("3.png", "4.png")
    marked = [Change(name, "label", None, "red", machine) for name in taken]
    marked += [Change(name, "tag", None, PSEUDO, machine) for name in taken]
    samples = tuple(replace(one, label="red") if one.path.name in taken else one for one in first.dataset)
    write_version(out, replace(first.dataset, samples=samples), parent=first, changes=marked)

    def by_people(folder: Path) -> int:
        return len(prepare(folder, classes=("red", "blue", "green"), model=None, root=None).subject.given)

    assert by_people(out) == 3
    _, told, _ = run(capsys, "ask", out, *CLASSES, out)
    assert "labelled          3 of 12 images" in told
    assert not (out / "v0003").exists()
    run(capsys, "ask", out, *CLASSES, "elsewhere")
    assert labels_in(Path("elsewhere"))["3.png"] == "red"
    assert by_people(Path("elsewhere")) == 3, "marked there too"
    said(here / "new images", {3: "red"})  # confirmed
    run(capsys, "ask", out, *CLASSES, out)
    assert (out / "v0003").exists()
    assert by_people(out) == 4
    mended(out, x4="blue")
    assert by_people(out) == 5
