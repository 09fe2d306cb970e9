"""Two people in two terminals: two sessions on one file of answers."""

from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from filelock import FileLock

from pangu_cv.iterate.answers import AnswerFile
from pangu_cv.iterate.ask import AskConfig, Session
from tests.iterate.ask.asking import honest, subject


@pytest.mark.parametrize("names", [("anna", "ben"), ("worker", "worker")])
def test_they_are_shown_different_images_and_learn_from_each_other(tmp_path: Path, names: tuple[str, str]) -> None:
    what, labels = subject(tmp_path)
    sessions = [Session(what, AnswerFile(tmp_path / "a.jsonl"), AskConfig()) for _ in names]
    answered: list[int] = []
    while len(answered) < 60:
        shown = [session.next(by) for session, by in zip(sessions, names, strict=True)]
        if None in shown:
            break
        assert len({one.row for one in shown if one}) == 2, answered
        for session, one in zip(sessions, shown, strict=True):
            assert one is not None
            assert one.kind != "question" or session.label_N[one.row] < 0
            honest(session, one, labels)
            answered.append(one.row)
    for session, by in zip(sessions, names, strict=True):
        while (one := session.next(by)) is not None:
            honest(session, one, labels)
        assert session.stopped == "the fronts have met"
        assert session.known.answers == len(session.file.read()) < 75  # of 100 images
        known = np.flatnonzero(session.label_N >= 0)
        np.testing.assert_array_equal(session.label_N[known], labels[known])


def test_what_the_other_answered_is_known_before_the_next_question(tmp_path: Path) -> None:
    what, labels = subject(tmp_path)
    mine, theirs = (Session(what, AnswerFile(tmp_path / "a.jsonl"), AskConfig()) for _ in range(2))
    while mine.stopped is None:
        asked = mine.next("anna")
        assert asked is not None
        honest(mine, asked, labels)
    assert theirs.known.answers == 0
    assert theirs.next("ben") is None
    assert theirs.stopped == mine.stopped
    np.testing.assert_array_equal(theirs.label_N, mine.label_N)


def test_an_image_shown_elsewhere_comes_last_and_lapses(tmp_path: Path) -> None:
    what, _ = subject(tmp_path, classes=2, each=2)
    now, file = [1000.0], AnswerFile(tmp_path / "a.jsonl")
    mine, theirs = (Session(what, file, AskConfig(lease_seconds=10), clock=lambda: now[0]) for _ in range(2))
    first = theirs.next("ben")  # and ben goes away
    assert first is not None
    for _ in range(3):
        asked = mine.next("anna")
        assert asked is not None
        assert asked.row != first.row
        mine.take(asked, "unsure", seconds=1)
    assert (last := mine.next("anna")) is not None, "nobody waits for who went away"
    assert last.row == first.row
    other = AnswerFile(tmp_path / "b.jsonl")
    mine, theirs = (Session(what, other, AskConfig(lease_seconds=10), clock=lambda: now[0]) for _ in range(2))
    assert (one := theirs.next("ben")) is not None
    now[0] += 11
    assert (lapsed := mine.next("anna")) is not None
    assert lapsed.row == one.row


def test_a_damaged_list_of_what_is_shown_is_begun_anew(tmp_path: Path) -> None:
    what, _ = subject(tmp_path)
    session = Session(what, AnswerFile(tmp_path / "a.jsonl"), AskConfig())
    for text in ("{", "[1]", '{"x": 5}', '{"x": {"y": "z"}}'):
        (tmp_path / ".a.jsonl.shown").write_text(text)
        assert session.next("anna") is not None


def test_a_clock_that_was_set_back_ends_what_was_shown(tmp_path: Path) -> None:
    what, _ = subject(tmp_path, classes=2, each=2)
    now, file = [9000.0], AnswerFile(tmp_path / "a.jsonl")
    mine, theirs = (Session(what, file, AskConfig(lease_seconds=10), clock=lambda: now[0]) for _ in range(2))
    shown = theirs.next("ben")
    now[0] -= 4  # as clocks of two machines may differ
    other = mine.next("anna")
    assert shown is not None
    assert other is not None
    assert other.row != shown.row
    now[0] -= 3600
    rows = [asked.row for by in ("anna", "chloe") if (asked := mine.next(by)) is not None]
    assert set(rows) == {shown.row, other.row}, "neither the other session's nor an own one holds an image back"


def test_nobody_waits_for_another_process_that_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    what, labels = subject(tmp_path, classes=2, each=4)
    learn, learnt = Session._relearn, []

    def relearn(session: Session) -> None:
        with FileLock(tmp_path / ".a.jsonl.shown.lock").acquire(timeout=0):
            pass  # free
        learnt.append(session)
        learn(session)

    monkeypatch.setattr(Session, "_relearn", relearn)
    file = AnswerFile(tmp_path / "a.jsonl")
    mine, theirs = (Session(what, file, AskConfig(relearn_every=every)) for every in (1, 1000))
    learnt.clear()
    while (asked := theirs.next("ben")) is not None:
        honest(theirs, asked, labels)
    mine.next("anna")
    theirs.undo("ben")
    assert learnt[-2:] == [mine, theirs]


def test_a_picture_is_shown_while_the_session_is_busy(tmp_path: Path) -> None:
    what, _ = subject(tmp_path)
    session = Session(what, AnswerFile(tmp_path / "a.jsonl"), AskConfig())
    asked = session.next("anna")
    assert asked is not None
    found = []
    with session._lock:
        thread = Thread(target=lambda: found.append(session.shown(asked.id)), daemon=True)
        thread.start()
        thread.join(5)
    assert found == [asked]
