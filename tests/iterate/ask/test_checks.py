"""What the machine took over is checked, slips get a second look, and only what that tells counts."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pangu_cv.iterate.answers import Answer, AnswerFile
from pangu_cv.iterate.ask import AskConfig, Session
from pangu_cv.iterate.ask.checks import Checks, checks
from tests.iterate.ask.asking import honest, subject


def test_what_the_machine_took_over_is_checked_each_image_once(tmp_path: Path) -> None:
    what, labels = subject(tmp_path, each=100)
    odd = [row for row in np.flatnonzero(labels == 0).tolist() if row % 2]
    truth = labels.copy()
    truth[odd] = 1  # half of the first cluster is something else, which no feature shows
    config = AskConfig(checks={"count": 10, "most_wrong": 0.1}, pace={"end": 0.3})
    session = Session(what, AnswerFile(tmp_path / "answers.jsonl"), config)
    checked = set()
    while (asked := session.next("anna")) is not None:
        if asked.kind == "check":
            assert asked.row not in checked
            checked.add(asked.row)
            assert asked.klass == what.classes[session.shares_NC[asked.row].argmax()]
            assert session.label_N[asked.row] < 0
        honest(session, asked, truth)
    assert session.checks.right + session.checks.wrong == len(checked) >= 10
    assert (session.stopped == "the fronts have met") == session.checks.has_passed
    again = Session(what, AnswerFile(tmp_path / "answers.jsonl"), config)
    assert again.checks == session.checks


@pytest.mark.parametrize(("said", "expected"), [("yes", True), ("no", False)])
def test_a_round_of_checks_passes_or_halves_what_is_taken_for_certain(
    tmp_path: Path, said: str, expected: bool
) -> None:
    what, labels = subject(tmp_path, each=100)
    session = Session(what, AnswerFile(tmp_path / "answers.jsonl"), AskConfig())
    asked = session.next("anna")
    while asked is not None and asked.kind != "check":
        honest(session, asked, labels)
        asked = session.next("anna")
    assert session.stopped is None
    rounds = 0
    while asked is not None and asked.kind == "check" and not session.checks.failed:
        session.take(asked, said, seconds=1)  # type: ignore[arg-type]
        asked, rounds = session.next("anna"), rounds + 1
        while asked is not None and asked.kind != "check" and not session.checks.failed:
            if asked.kind == "second look":
                session.take(asked, "no", seconds=1)
            else:
                honest(session, asked, labels)
            asked = session.next("anna")
    assert rounds == 20  # of 400 images one in 20
    assert session.checks.has_passed is expected
    assert session.stopped == ("the fronts have met" if expected else None)
    assert session._pace() == AskConfig().pace.at(session._round) / (1 if expected else 2)


def test_none_is_checked_where_none_is_asked_for(tmp_path: Path) -> None:
    what, labels = subject(tmp_path)
    session = Session(what, AnswerFile(tmp_path / "answers.jsonl"), AskConfig(checks={"count": 0}))
    while (asked := session.next("anna")) is not None:
        assert asked.kind != "check"
        honest(session, asked, labels)
    assert session.stopped == "the fronts have met"


def test_a_slip_gets_a_second_look_and_is_mended(tmp_path: Path) -> None:
    what, labels = subject(tmp_path, each=50)
    session = Session(what, AnswerFile(tmp_path / "answers.jsonl"), AskConfig())
    slips: list[int] = []
    looked: list[int] = []
    while (asked := session.next("anna")) is not None:
        truth = session.subject.classes[labels[asked.row]]
        if asked.kind == "second look":
            assert asked.klass != session.subject.classes[session.label_N[asked.row]]
            looked.append(asked.row)
        if asked.kind == "question" and session._knows_all_classes and len(slips) < 2:
            slips.append(asked.row)
            session.take(asked, "label", seconds=1, klass="a" if truth == "b" else "b")
        else:
            honest(session, asked, labels)
    assert len(slips) == 2
    assert set(slips) <= set(looked)
    assert len(looked) == len(set(looked))
    known = np.flatnonzero(session.label_N >= 0)
    np.testing.assert_array_equal(session.label_N[known], labels[known])
    assert (
        Session(what, AnswerFile(tmp_path / "answers.jsonl"), AskConfig()).label_N.tolist() == session.label_N.tolist()
    )


def test_a_second_look_that_confirms_the_label_is_not_asked_again(tmp_path: Path) -> None:
    what, labels = subject(tmp_path, each=50)
    strange = labels.copy()
    strange[labels == 0] = np.where(np.arange(np.sum(labels == 0)) == 7, 3, 0)
    file = AnswerFile(tmp_path / "answers.jsonl")
    odd = int(np.flatnonzero(strange != labels)[0])
    file.append(Answer(what.name(odd), what.digests[odd], "d", "label", "anna", 1.0))
    session = Session(what, file, AskConfig())
    looks = 0
    while (asked := session.next("anna")) is not None:
        looks += asked.kind == "second look" and asked.row == odd
        honest(session, asked, strange)
    assert looks == 1
    assert session.label_N[odd] == 3
    assert session.stopped == "the fronts have met"


def test_a_check_that_was_taken_back_does_not_count() -> None:
    def answer(said: str, number: int) -> Answer:
        return Answer("a.png", f"{number:064x}", "a", said, "anna", 1.0, kind="check")  # type: ignore[arg-type]

    def marks(*numbers: int) -> frozenset[str]:
        return frozenset(f"{number:064x}" for number in numbers)

    def looked(said: str, number: int) -> Answer:
        return replace(answer(said, number), kind="second look")

    given = [answer("yes", 0), answer("no", 1), answer("withdrawn", 1), answer("yes", 2), answer("no", 3)]
    assert checks(given, count=2, most_wrong=0.0) == Checks(2, 0, 0, True, marks(0, 2, 3), {f"{3:064x}": "a"})
    assert checks(given[:1], count=2, most_wrong=0.0) == Checks(1, 0, 0, False, marks(0))
    confirmed = [answer("no", 0), looked("no", 0), answer("yes", 1)]
    assert checks(confirmed, count=2, most_wrong=0.0) == Checks(1, 1, 1, False, marks(0, 1))
    slipped = [answer("no", 0), looked("yes", 0), answer("yes", 1)]
    assert checks(slipped, count=2, most_wrong=0.0) == Checks(2, 0, 0, True, marks(0, 1))
    assert checks([looked("no", 5)], count=2, most_wrong=0.0) == Checks()
    assert checks([], count=0, most_wrong=0.0).has_passed
    named = replace(answer("label", 0), klass="b")  # "this is a b" to "is this an a?"
    assert checks([named, answer("unsure", 1)], count=1, most_wrong=0.0) == Checks(0, 1, 1, False, marks(0, 1))


def test_a_check_that_is_undone_is_asked_again_as_one_and_checks_of_other_images_do_not_count(tmp_path: Path) -> None:
    what, labels = subject(tmp_path, each=50)
    session = Session(what, AnswerFile(tmp_path / "answers.jsonl"), AskConfig())
    while (asked := session.next("anna")) is not None and asked.kind != "check":
        honest(session, asked, labels)
    assert asked is not None
    session.take(asked, "yes", seconds=1)
    assert session.checks.right == 1
    again = session.undo("anna")
    assert again is not None
    assert (again.kind, again.row, session.checks.right) == ("check", asked.row, 0)
    session.take(again, "label", seconds=1, klass=again.klass)
    assert session.checks.right == 1
    (tmp_path / "other").mkdir()
    features = what.features_ND + 1
    others = tuple(hashlib.sha256(f"other {at}".encode()).hexdigest() for at in range(len(labels)))
    other = Session(replace(what, digests=others, features_ND=features), session.file, AskConfig())
    assert other.checks == Checks()
    assert other._pace() == AskConfig().pace.start
