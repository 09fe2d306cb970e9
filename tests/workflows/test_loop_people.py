"""Who answers the loop: a person who stops or cannot tell, a phone, a simulated one."""

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from pangu_cv import cli
from pangu_cv.errors import DataError
from pangu_cv.iterate.answers import AnswerFile
from pangu_cv.iterate.ask import Session
from pangu_cv.iterate.questions import PricesConfig
from pangu_cv.workflows.loop import LoopRecipe, OnPage, People, run_loop
from pangu_cv.workflows.loop.people import Oracle
from tests.finetune.tiny import COLOURS
from tests.workflows.loops import FROZEN, IMAGES, Person, card, knowing, load, quiet


@pytest.mark.usefixtures("_no_end")
def test_a_person_stops_and_the_same_command_goes_on(settings: list[str], tmp_path: Path) -> None:
    recipe = load(settings)
    result = run_loop(recipe, people=Person(tmp_path, 4), say=quiet)
    assert result.bundle is None
    assert result.open is not None
    assert "frozen set" in result.open
    assert len(AnswerFile(tmp_path / "loop" / "frozen" / "answers.jsonl").read()) == 4
    result = run_loop(recipe, people=Person(tmp_path, FROZEN - 4 + 3), say=quiet)
    assert result.open is not None
    assert "round_1" in result.open
    assert len(AnswerFile(tmp_path / "loop" / "answers.jsonl").read()) == 3
    result = run_loop(recipe, people=Person(tmp_path, 1000), say=quiet)
    assert result.open is None
    assert [one["asked"]["by"] for one in result.metrics["rounds"]] == ["anna", "anna"]


@pytest.mark.usefixtures("_no_end")
def test_a_phone_answers_round_after_round_under_one_link(settings: list[str], tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    link, is_over = f"http://127.0.0.1:{port}/secret", threading.Event()

    def call(what: str, body: dict[str, Any] | None = None) -> Any:
        request = Request(f"{link}/{what}", None if body is None else json.dumps(body).encode())
        with urlopen(request, timeout=5) as reply:
            return json.loads(reply.read())

    def phone() -> None:
        while not is_over.wait(0.05):
            with suppress(OSError):  # between two rounds nobody listens
                asked = call("next?by=anna")["question"]
                while asked is not None:
                    truth = sorted(COLOURS)[int(Path(asked["image"]).stem) % 3]
                    said = "label" if asked["klass"] is None else "yes" if asked["klass"] == truth else "no"
                    answer = {"id": asked["id"], "said": said, "seconds": 1.0, "klass": truth}
                    asked = call("answer", answer)["question"]

    thread = threading.Thread(target=phone)
    thread.start()
    try:
        result = run_loop(load(settings), people=OnPage(port, "127.0.0.1", "secret"), say=quiet)
    finally:
        is_over.set()
        thread.join()
    assert result.open is None
    assert result.metrics["rounds"][-1]["measured"]["summary"]["balanced_accuracy"] > 0.9
    assert {answer.by for answer in AnswerFile(tmp_path / "loop" / "answers.jsonl").read()} == {"anna"}


@pytest.mark.parametrize(("by", "name"), [(["--by", "Ann"], "Ann"), ([], "people on the page")])
def test_who_asks_for_a_page_may_give_a_name_for_the_ledger(
    by: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(recipe: LoopRecipe, *, people: People, **_: object) -> None:
        raise DataError(f"{type(people).__name__} {people.name}")

    monkeypatch.setattr("pangu_cv.verbs.loop.run_loop", told)
    with pytest.raises(DataError, match=f"OnPage {name}"):
        cli.app(["loop", "power_line", "images=x", "classes=[a,b]", "--page", *by])


@pytest.mark.usefixtures("_no_end")
def test_what_nobody_can_tell_is_asked_once_and_the_loop_ends(tmp_path: Path) -> None:
    settings = card(tmp_path, images=15)
    person = Person(tmp_path, 1000)

    def people(session: Session) -> None:
        is_frozen = session.file.path.parent.name == "frozen"
        asked = None if is_frozen else session.next("anna")
        if asked is not None and not session.known.unsure:
            session.take(asked, "unsure", seconds=1)
        person(session)

    people.name = "anna"  # type: ignore[attr-defined]
    said: list[str] = []
    result = run_loop(load(settings, "rounds=9"), people=people, say=said.append)  # type: ignore[arg-type]
    assert result.open is None
    assert "people have looked at every image; no further round" in said
    chosen = [Path(image) for one in result.metrics["rounds"] for image, _ in _chosen(tmp_path, one["round"])]
    assert len(chosen) == len(set(chosen)) == 15 - FROZEN


def _chosen(root: Path, number: int) -> list[list[str]]:
    found: list[list[str]] = json.loads((root / "loop" / f"round_{number}" / "mined.json").read_text())["images"]
    return found


@pytest.mark.usefixtures("_no_end")
def test_what_the_model_is_sure_of_is_not_asked_and_the_model_stays(settings: list[str], tmp_path: Path) -> None:
    recipe = load(settings, f"oracle={tmp_path / 'labels.csv'}", "ask.pace={start: 0.7, end: 0.7}")
    one, two = run_loop(recipe, people=Person(tmp_path, 0), say=quiet).metrics["rounds"]
    assert two["asked"]["stopped"] == "the fronts have met"
    assert two["asked"]["answers"] == one["asked"]["answers"]
    assert two["learnt"]["how"] == "nothing"
    assert two["learnt"]["model"] == one["learnt"]["model"]


@pytest.mark.usefixtures("_no_end")
def test_a_round_that_only_loses_a_label_teaches_nothing(settings: list[str], tmp_path: Path) -> None:
    (one,) = run_loop(load(settings, "rounds=1"), people=Person(tmp_path, 1000), say=quiet).metrics["rounds"]
    file = AnswerFile(tmp_path / "loop" / "answers.jsonl")
    told = next(answer for answer in file.read() if answer.said in ("yes", "label"))
    file.append(replace(told, said="no", by="berta", id="0"))  # they disagree: it has no label any more

    def unsure(session: Session) -> None:
        while (asked := session.next("anna")) is not None:
            session.take(asked, "unsure", seconds=1)

    unsure.name = "anna"  # type: ignore[attr-defined]
    result = run_loop(load(settings), people=unsure, say=quiet)  # type: ignore[arg-type]
    assert result.open is None
    two = result.metrics["rounds"][1]
    assert two["asked"]["labelled"] == one["asked"]["labelled"] - 1
    assert two["learnt"]["how"] == "nothing"
    assert two["learnt"]["model"] == one["learnt"]["model"]


@pytest.mark.usefixtures("_no_end")
def test_enough_closes_the_open_questions_of_one_round(settings: list[str], tmp_path: Path) -> None:
    recipe = load(settings)
    run_loop(recipe, people=Person(tmp_path, FROZEN + 5), say=quiet)
    result = run_loop(recipe, people=Person(tmp_path, 0), say=quiet, enough=True)
    assert result.open is not None
    assert "round_2" in result.open
    (one,) = result.metrics["rounds"]
    assert one["asked"]["answers"] == 5
    assert one["asked"]["stopped"] == "enough"


def test_a_table_may_name_the_images_from_another_folder(settings: list[str], tmp_path: Path) -> None:
    (tmp_path / "apart").mkdir()
    table = (tmp_path / "labels.csv").rename(tmp_path / "apart" / "truth.csv")
    table.write_text(table.read_text().replace("new_images/", ""))
    oracle = load(settings, f"oracle.path={table}", f"oracle.root={tmp_path / 'new_images'}").oracle
    assert oracle is not None
    assert len(Oracle.read(oracle, PricesConfig()).truth) == IMAGES


def test_a_simulated_person_errs_as_often_as_asked_and_the_same_way_every_time(
    settings: list[str], tmp_path: Path
) -> None:
    oracle = knowing(tmp_path, wrong=0.5)
    asked = lambda klass: type("Asked", (), {"klass": klass})()  # noqa: E731
    names = tuple(sorted(COLOURS))
    heard: Callable[[], list[object]] = lambda: [  # noqa: E731
        oracle._heard(key, asked(klass), names) for key in oracle.truth for klass in (*names, None)
    ]
    assert heard() == heard()
    wrong = sum(
        (oracle._heard(key, asked(klass), names) == klass) != (truth == klass)
        for key, truth in oracle.truth.items()
        for klass in names
    )
    assert 0.3 < wrong / (3 * len(oracle.truth)) < 0.7
