"""A session with people who know, who differ, and who come back."""

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from rich.console import Console

from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError
from pangu_cv.iterate.answers import Answer, AnswerFile
from pangu_cv.iterate.ask import AskConfig, Asked, Session, Subject
from pangu_cv.iterate.ask.checks import Checks, checks
from pangu_cv.iterate.ask.page import page
from pangu_cv.iterate.ask.report import ask_report
from pangu_cv.iterate.ask.terminal import ask_in_terminal
from pangu_cv.iterate.ask.version import write_answers
from tests.iterate.clusters import clusters


def subject(root: Path, *, classes: int = 4, each: int = 25, spread: float = 0.5) -> tuple[Subject, np.ndarray]:
    features, labels = clusters(classes, each, spread=spread)
    images = tuple(root / f"{at}.png" for at in range(len(labels)))
    for path in images:
        path.write_bytes(path.name.encode())
    digests = tuple(hashlib.sha256(path.name.encode()).hexdigest() for path in images)
    return Subject(root, images, digests, features, tuple("abcdefgh"[:classes])), labels


def honest(session: Session, asked: Asked, labels: np.ndarray) -> None:
    truth = session.subject.classes[labels[asked.row]]
    if asked.klass is None:
        session.take(asked, "label", seconds=5, klass=truth)
    else:
        session.take(asked, "yes" if asked.klass == truth else "no", seconds=1.5)


def test_separate_classes_are_learnt_from_few_answers_and_the_fronts_meet(tmp_path: Path) -> None:
    what, labels = subject(tmp_path)
    session = Session(what, AnswerFile(tmp_path / "answers.jsonl"), AskConfig())
    asked, count = session.next("anna"), 0
    while asked is not None:
        honest(session, asked, labels)
        asked, count = session.next("anna"), count + 1
    assert session.stopped == "the fronts have met"
    assert count < 60  # of 100 images
    assert (session.shares_NC.argmax(1) == labels).all()
    assert session.pseudo_labels
    assert all(labels[row] == klass for row, (klass, _) in session.pseudo_labels.items())
    again = Session(what, AnswerFile(tmp_path / "answers.jsonl"), AskConfig())
    assert again.known == session.known
    np.testing.assert_array_equal(again.label_N, session.label_N)
    assert again.stopped == session.stopped


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


def test_a_no_strikes_the_class_out_for_good(tmp_path: Path) -> None:
    what, _ = subject(tmp_path)
    session = Session(what, AnswerFile(tmp_path / "answers.jsonl"), AskConfig(relearn_every=1))
    asked = session.next("anna")
    assert asked is not None
    assert asked.klass is not None
    session.take(asked, "no", seconds=1)
    assert session.shares_NC[asked.row, what.classes.index(asked.klass)] == 0
    np.testing.assert_allclose(session.shares_NC[asked.row].sum(), 1)
    following = session.next("anna")
    assert following is not None
    assert following.row == asked.row  # a start is asked about until it is known
    assert following.klass != asked.klass


def test_two_people_get_different_images_and_a_lapsed_question_goes_to_the_other(tmp_path: Path) -> None:
    what, _ = subject(tmp_path)
    now = [0.0]
    session = Session(what, AnswerFile(tmp_path / "a.jsonl"), AskConfig(lease_seconds=10), clock=lambda: now[0])
    anna, ben = session.next("anna"), session.next("ben")
    assert anna is not None
    assert ben is not None
    assert anna.row != ben.row
    assert session.next("anna") == anna  # a page that is loaded again shows the same
    now[0] = 11
    later = session.next("chloe")
    assert later is not None
    assert later.row == anna.row
    assert session.take(anna, "yes", seconds=1)  # a late answer is still an answer
    assert session.label_N[anna.row] >= 0


def test_an_answer_twice_changes_nothing(tmp_path: Path) -> None:
    what, _ = subject(tmp_path)
    session = Session(what, AnswerFile(tmp_path / "a.jsonl"), AskConfig())
    asked = session.next("anna")
    assert asked is not None
    assert session.take(asked, "yes", seconds=1)
    before = session.known
    assert not session.take(asked, "no", seconds=1)
    assert session.known == before


def test_disputed_answers_are_put_aside_and_asked_again(tmp_path: Path) -> None:
    what, _ = subject(tmp_path)
    file = AnswerFile(tmp_path / "a.jsonl")
    file.append(Answer("0.png", what.digests[0], "a", "yes", "anna", 1))
    file.append(Answer("0.png", what.digests[0], "a", "no", "ben", 1))
    session = Session(what, file, AskConfig())
    assert session.label_N[0] == -1
    asked = session.next("chloe")
    assert asked is not None
    assert (asked.row, asked.klass, asked.is_disputed) == (0, "a", True)
    session.take(asked, "yes", seconds=1)
    assert session.label_N[0] == 0
    assert not session.known.disputed


def test_undo_asks_the_same_again(tmp_path: Path) -> None:
    what, _ = subject(tmp_path)
    session = Session(what, AnswerFile(tmp_path / "a.jsonl"), AskConfig())
    asked = session.next("anna")
    assert asked is not None
    session.take(asked, "yes", seconds=1)
    again = session.undo("anna")
    assert again is not None
    assert (again.row, again.klass) == (asked.row, asked.klass)
    assert session.label_N[asked.row] == -1
    assert session.next("anna") == again
    assert session.undo("anna") is None


def test_an_image_gone_since_is_passed_over_and_its_answers_stay(tmp_path: Path) -> None:
    what, _ = subject(tmp_path)
    session = Session(what, AnswerFile(tmp_path / "a.jsonl"), AskConfig())
    expected = session.next("anna")
    assert expected is not None
    fresh = Session(what, AnswerFile(tmp_path / "a.jsonl"), AskConfig())
    what.images[expected.row].unlink()
    asked = fresh.next("anna")
    assert asked is not None
    assert asked.row != expected.row
    assert fresh.gone == [what.name(expected.row)]
    AnswerFile(tmp_path / "a.jsonl").append(Answer("old.png", "f" * 64, "a", "yes", "anna", 1))
    assert Session(what, AnswerFile(tmp_path / "a.jsonl"), AskConfig()).elsewhere == 1


def test_answers_about_an_unknown_class_are_named(tmp_path: Path) -> None:
    what, _ = subject(tmp_path)
    file = AnswerFile(tmp_path / "a.jsonl")
    file.append(Answer("0.png", what.digests[0], "old", "yes", "anna", 1))
    with pytest.raises(DataError, match=r"'old'.*--rename 'old=NEW'"):
        Session(what, file, AskConfig())
    file.rename("old", "b")
    assert Session(what, file, AskConfig()).label_N[0] == 1


def test_given_labels_start_a_session_and_answers_overrule_them(tmp_path: Path) -> None:
    what, labels = subject(tmp_path)
    given = {what.digests[row]: what.classes[labels[row]] for row in range(20)}
    started = Subject(what.root, what.images, what.digests, what.features_ND, what.classes, given=given)
    file = AnswerFile(tmp_path / "a.jsonl")
    session = Session(started, file, AskConfig())
    assert (session.label_N >= 0).sum() == 20
    file.append(Answer("0.png", what.digests[0], what.classes[labels[0]], "no", "anna", 1))
    assert Session(started, file, AskConfig()).label_N[0] == -1


def test_the_budget_ends_it(tmp_path: Path) -> None:
    what, labels = subject(tmp_path)
    session = Session(what, AnswerFile(tmp_path / "a.jsonl"), AskConfig(max_seconds=6))
    while asked := session.next("anna"):
        honest(session, asked, labels)
    assert session.stopped == "the budget is spent"
    assert 6 <= session.known.seconds < 12


def _get(link: str, **body: object) -> tuple[int, dict[str, object]]:
    data = json.dumps(body).encode() if body else None
    try:
        with urlopen(Request(link, data)) as reply:
            return reply.status, json.loads(reply.read())
    except HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_the_page_asks_takes_answers_and_refuses_who_has_no_token(tmp_path: Path) -> None:
    what, _ = subject(tmp_path)
    session = Session(what, AnswerFile(tmp_path / "a.jsonl"), AskConfig())
    with page(session, port=0, address="127.0.0.1") as link:
        with urlopen(link) as reply:
            assert b'id="yes"' in reply.read()
            assert "default-src 'none'" in reply.headers["content-security-policy"]
        home = link.rsplit("/", 2)[0]
        assert _get(f"{home}/next?by=anna")[0] == _get(f"{home}/wrong/next?by=anna")[0] == 404
        found = _get(f"{link}next?by=anna")[1]
        other = _get(f"{link}next?by=ben")[1]
        asked = found["question"]
        assert isinstance(asked, dict)
        assert isinstance(other["question"], dict)
        assert asked["image"] != other["question"]["image"]
        sent = {"id": asked["id"], "said": "yes", "seconds": 2.0, "klass": None}
        status, following = _get(f"{link}answer", **sent)
        assert (status, following["labelled"]) == (200, 1)
        assert _get(f"{link}answer", **sent)[0] == 200  # sent again after a lost connection
        assert [a.said for a in session.file.read()] == ["yes"]
        assert _get(f"{link}undo", by="anna")[1]["labelled"] == 0
        assert _get(f"{link}answer", **sent | {"id": "strange"})[0] == 410
        assert _get(f"{link}answer", **sent | {"said": "maybe"})[0] == 400
        assert _get(f"{link}answer", **sent | {"klass": "x" * 5000})[0] == 413
        assert _get(f"{link}next?by=")[0] == 400
        assert _get(f"{link}image/{asked['id']}")[0] == 410  # these files are no images


def test_the_terminal_takes_keys_and_an_end_of_input(tmp_path: Path) -> None:
    what, _ = subject(tmp_path)
    session = Session(what, AnswerFile(tmp_path / "a.jsonl"), AskConfig())
    keys = iter(["?", "y", "b", "n", "2", "u", "9"])

    def read(_: str) -> str:
        try:
            return next(keys)
        except StopIteration:
            raise EOFError from None

    ask_in_terminal(session, by="anna", read=read, console=Console(file=io.StringIO()))
    assert [a.said for a in session.file.read()] == ["yes", "withdrawn", "no", "label", "unsure"]


def test_a_session_becomes_a_version_without_pseudo_labels_unless_asked(tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    what, labels = subject(root)
    session = Session(what, AnswerFile(tmp_path / "a.jsonl"), AskConfig())
    while asked := session.next("anna"):
        honest(session, asked, labels)
    dataset = Dataset(root, "images", tuple(Sample(path) for path in what.images))
    out = tmp_path / "versions"
    version, is_new = write_answers(out, dataset, session, pseudo=False, source=root)
    found = {sample.path: sample.label for sample in version.dataset}
    assert is_new
    assert {what.images[row]: what.classes[labels[row]] for row in np.flatnonzero(session.label_N >= 0)} == {
        path: label for path, label in found.items() if label
    }
    assert not write_answers(out, dataset, session, pseudo=False, source=root)[1]
    more, _ = write_answers(out, dataset, session, pseudo=True, source=root)
    marked = {one.image for one in more.changes if one.after == "pseudo-label"}
    assert marked == {what.name(row) for row in session.pseudo_labels}
    assert all(sample.label for sample in more.dataset if sample.path.name in marked)
    ask_report(tmp_path / "report.html", session, ())
    assert "Taken over by the machine" in (tmp_path / "report.html").read_text()


def test_it_never_falls_silent_before_it_stops(tmp_path: Path) -> None:
    what, labels = subject(tmp_path, each=8, spread=1.5)
    session = Session(what, AnswerFile(tmp_path / "a.jsonl"), AskConfig(relearn_every=1000))
    while asked := session.next("anna"):
        honest(session, asked, labels)
    assert session.stopped is not None
