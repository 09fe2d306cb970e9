"""What people said: nothing lost, nothing counted twice, contradictions put aside."""

import multiprocessing
import os
from pathlib import Path

import pytest

from pangu_cv.errors import DataError
from pangu_cv.iterate.answers import Answer, AnswerFile, Said, known

ONE, TWO = "1" * 64, "2" * 64


def answer(said: Said, klass: str = "crack", *, sha256: str = ONE, by: str = "anna", **more: str) -> Answer:
    return Answer("a.png", sha256, klass, said, by, 2.5, **more)


def test_a_yes_is_a_label_and_a_no_strikes_the_class_out() -> None:
    found = known([answer("no", "pit"), answer("yes"), answer("no", "stain", sha256=TWO), answer("unsure", sha256=TWO)])
    assert found.labels == {ONE: "crack"}
    assert found.struck == {ONE: {"pit"}, TWO: {"stain"}}
    assert found.unsure == {TWO: {"crack"}}
    assert (found.seconds, found.answers) == (10.0, 4)


def test_an_answer_sent_twice_is_one(tmp_path: Path) -> None:
    file = AnswerFile(tmp_path / "answers.jsonl")
    once = answer("yes", id="q1")
    assert file.append(once)
    before = file.path.read_bytes()
    assert not file.append(once)
    assert not AnswerFile(file.path).append(once)
    assert file.path.read_bytes() == before
    assert AnswerFile(file.path).read() == [once]


def test_an_answer_that_may_not_survive_is_none_until_it_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    file = AnswerFile(tmp_path / "answers.jsonl")
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            file.append(answer("yes", id="q1"))
    assert file.read() == []
    assert file.append(answer("yes", id="q1"))


def test_what_was_taken_back_no_longer_voids_what_was_said_before() -> None:
    found = known([answer("yes"), answer("yes", "pit"), answer("withdrawn", "pit")])
    assert found.labels == {ONE: "crack"}
    assert (found.seconds, found.answers) == (7.5, 3)
    assert known([answer("yes"), answer("withdrawn"), answer("no")]).struck == {ONE: {"crack"}}
    assert known([answer("yes"), answer("withdrawn", by="ben")]).labels == {ONE: "crack"}


def test_the_later_word_of_one_person_counts() -> None:
    assert known([answer("yes"), answer("no")]).struck == {ONE: {"crack"}}
    assert known([answer("yes"), answer("no")]).labels == {}
    assert known([answer("no"), answer("yes")]).labels == {ONE: "crack"}
    changed = known([answer("yes"), answer("label", "pit")])
    assert (changed.labels, changed.struck, changed.disputed) == ({ONE: "pit"}, {}, {})
    assert known([answer("yes"), answer("withdrawn")]).labels == {}


@pytest.mark.parametrize("other", [answer("no", by="ben"), answer("label", "pit", by="ben")])
def test_people_who_disagree_leave_it_disputed_until_a_third_decides(other: Answer) -> None:
    found = known([answer("yes"), other])
    assert "crack" in found.disputed[ONE]
    assert not found.labels
    assert "crack" not in found.struck.get(ONE, ())
    decided = known([answer("yes"), other, answer("yes", by="chloe")])
    assert (decided.labels, decided.disputed) == ({ONE: "crack"}, {})
    assert known([answer("yes"), other, answer("no", by="anna")]).labels.get(ONE) != "crack"


def test_a_renamed_class_keeps_its_answers(tmp_path: Path) -> None:
    file = AnswerFile(tmp_path / "answers.jsonl")
    file.append(answer("yes"))
    assert file.rename("crack", "hairline") == 1
    assert file.rename("absent", "x") == 0
    file.append(answer("yes", "crack", sha256=TWO))  # the name may come to mean something else later
    assert known(AnswerFile(file.path).read()).labels == {ONE: "hairline", TWO: "crack"}


def test_a_torn_last_line_is_set_aside_and_a_whole_one_kept(tmp_path: Path) -> None:
    file = AnswerFile(tmp_path / "answers.jsonl")
    file.append(answer("yes"))
    whole = file.path.read_bytes()
    file.path.write_bytes(whole + b'{"image": "b.p')
    assert AnswerFile(file.path).append(answer("no", sha256=TWO))
    assert known(AnswerFile(file.path).read()).labels == {ONE: "crack"}
    assert (tmp_path / "answers.jsonl.torn").read_bytes() == b'{"image": "b.p\n'
    file.path.write_bytes(whole.rstrip())
    assert len(AnswerFile(file.path).read()) == 1
    assert file.path.read_bytes() == whole


@pytest.mark.parametrize("line", ['{"x": 1}', "[]", "no json", '{"image": "a", "sha256": "zz", "klass": "c"}'])
def test_a_line_that_is_no_answer_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "answers.jsonl"
    AnswerFile(path).append(answer("yes"))
    with path.open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(DataError, match="line 2 is no answer"):
        AnswerFile(path).read()


def _write_many(path: Path, by: str) -> None:
    file = AnswerFile(path)
    for _ in range(40):
        file.append(answer("no", by=by))


def test_two_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    context = multiprocessing.get_context("spawn")
    people = [context.Process(target=_write_many, args=(path, by)) for by in ("anna", "ben")]
    for one in people:
        one.start()
    for one in people:
        one.join()
    assert len(AnswerFile(path).read()) == 80


def test_a_name_that_is_no_text_survives(tmp_path: Path) -> None:
    file = AnswerFile(tmp_path / "answers.jsonl")
    odd = Answer("bad\udcff\n.png", ONE, "crack", "yes", "anna", 1e9)
    file.append(odd)
    assert AnswerFile(file.path).read() == [odd]
    assert odd.seconds == 300
