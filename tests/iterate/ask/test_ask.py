"""A session with people who know, who differ, and who come back."""

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError
from pangu_cv.iterate.answers import Answer, AnswerFile
from pangu_cv.iterate.ask import AskConfig, Session, Subject
from pangu_cv.iterate.ask.page import page
from pangu_cv.iterate.ask.report import ask_report
from pangu_cv.iterate.ask.terminal import ask_in_terminal
from pangu_cv.iterate.ask.version import write_answers
from pangu_runtime.decode import DecodeSpec
from tests.iterate.ask.asking import honest, subject


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
    expected = Session(what, AnswerFile(tmp_path / "other.jsonl"), AskConfig()).next("anna")
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


def test_pictures_are_shown_in_the_range_that_is_in_use(tmp_path: Path) -> None:
    what, _ = subject(tmp_path, classes=2, each=2)
    for path in what.images:
        Image.fromarray(np.full((20, 24), 2048, np.uint16)).save(path)
    seen = replace(what, decode_spec=DecodeSpec(range_16bit=(0, 4095)))
    session = Session(seen, AnswerFile(tmp_path / "a.jsonl"), AskConfig())
    with page(session, port=0, address="127.0.0.1") as link:
        asked = _get(f"{link}next?by=anna")[1]["question"]
        assert isinstance(asked, dict)
        with urlopen(f"{link}image/{asked['id']}") as reply:
            on_phone = Image.open(io.BytesIO(reply.read()))
    ask_report(tmp_path / "report.html", session, ())
    found = re.search(r"data:image/\w+;base64,([^\"]+)", (tmp_path / "report.html").read_text())
    assert found
    in_report = Image.open(io.BytesIO(base64.b64decode(found[1]))).convert("RGB")
    for image in (on_phone, in_report):
        assert np.asarray(image).mean() == pytest.approx(127.5, abs=3)


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


def test_copies_of_a_file_teach_as_one_image(tmp_path: Path) -> None:
    what, labels = subject(tmp_path, spread=1.5)
    given = {what.digests[row]: what.classes[labels[row]] for row in range(20)}
    once = replace(what, given=given)
    features = np.concatenate([what.features_ND] * 3)
    thrice = replace(once, images=what.images * 3, digests=what.digests * 3, features_ND=features)
    shares = [Session(one, AnswerFile(tmp_path / "answers.jsonl"), AskConfig()).shares_NC for one in (once, thrice)]
    np.testing.assert_allclose(shares[1][: len(labels)], shares[0])
