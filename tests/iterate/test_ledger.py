import fcntl
import json
import multiprocessing
import os
from pathlib import Path

import pytest

from pangu_cv import cli
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.iterate.ledger import START, Entry, Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(tmp_path / "ledger.jsonl")
    for number in range(4):
        made.append("update", id=f"u{number}", model=f"m{number}", counts={"a": number})
    return made


def lines(ledger: Ledger) -> list[str]:
    return ledger.path.read_text().splitlines(keepends=True)


def found(ledger: Ledger) -> list[tuple[int, str]]:
    return [(flaw.line, flaw.what.split(":")[0]) for flaw in ledger.flaws()]


def test_lines_are_chained(ledger: Ledger) -> None:
    entries = ledger.entries()
    assert [e.seq for e in entries] == [1, 2, 3, 4]
    assert [e.previous for e in entries] == [START, *(e.sha256 for e in entries[:-1])]
    assert entries[2].facts == {"model": "m2", "counts": {"a": 2}}
    assert ledger.head == entries[-1].sha256
    assert ledger.flaws() == []


@pytest.mark.parametrize("line", [0, 1, 3])
def test_an_edited_line_is_named_the_last_one_too(ledger: Ledger, line: int) -> None:
    text = lines(ledger)
    text[line] = text[line].replace(f'"m{line}"', '"mX"')
    ledger.path.write_text("".join(text))
    assert found(ledger) == [(line + 1, "was edited")]
    with pytest.raises(DataError, match=f"line {line + 1} was edited"):
        ledger.append("update")
    assert lines(ledger) == text


def test_a_line_taken_out_is_named(ledger: Ledger) -> None:
    text = lines(ledger)
    ledger.path.write_text("".join([text[0], *text[2:]]))
    assert found(ledger) == [(2, "is entry 3, but the line before is entry 1")]


def test_lines_that_changed_places_are_named(ledger: Ledger) -> None:
    text = lines(ledger)
    ledger.path.write_text("".join([text[0], text[2], text[1], text[3]]))
    assert [line for line, _ in found(ledger)] == [2, 3, 4]
    ledger.path.write_text("".join([*text, text[1]]))
    assert found(ledger)[0] == (5, "is entry 2, but comes after entry 4")


def test_a_line_with_a_digest_made_to_fit_breaks_the_chain_after_it(ledger: Ledger, tmp_path: Path) -> None:
    other = Ledger(tmp_path / "other.jsonl")
    other.append("update", id="u0", model="forged")
    ledger.path.write_text("".join([*lines(other), *lines(ledger)[1:]]))
    assert found(ledger) == [(2, "does not follow the line before")]


def test_lines_cut_off_are_seen_against_the_head_alone(ledger: Ledger) -> None:
    head = ledger.head
    ledger.path.write_text("".join(lines(ledger)[:-1]))
    assert ledger.flaws() == []
    assert [flaw.line for flaw in ledger.flaws(head=head)] == [4]
    assert ledger.flaws(head=ledger.head) == []


@pytest.mark.parametrize("head", ["", "1234567", "not-a-digest", "0" * 65])
def test_a_head_that_any_line_could_have_proves_nothing(ledger: Ledger, head: str) -> None:
    with pytest.raises(SettingsError, match=f"--head '{head}': expected 8 to 64 hex digits"):
        ledger.flaws(head=head)
    assert ledger.flaws(head=ledger.head[:8].upper()) == []


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_torn_last_line_is_no_edited_one(ledger: Ledger, kept: int) -> None:
    text = lines(ledger)
    ledger.path.write_text("".join(text[:-1]) + text[-1][:kept])
    assert found(ledger) == [(4, "is torn, as by power loss; the next entry mends it")]
    assert len(ledger.entries()) == 3
    ledger.append("update", id="u3")
    assert [e.event for e in ledger.entries()] == ["update", "update", "update", "mended", "update"]
    assert ledger.flaws() == []
    assert (ledger.path.parent / "ledger.jsonl.torn-4").read_text() == text[-1][:kept]


def test_an_id_is_given_once(ledger: Ledger) -> None:
    with pytest.raises(DataError, match=r"line 2 .* has the id 'u1' already"):
        ledger.append("update", id="u1")
    assert len(ledger.entries()) == 4


def test_a_writer_is_stopped_by_what_others_wrote_while_none_can_write(ledger: Ledger) -> None:
    def stop(entries: tuple[Entry, ...]) -> None:
        assert [entry.id for entry in entries] == ["u0", "u1", "u2", "u3"]
        lock = ledger.path.with_name(".ledger.jsonl.lock")
        with lock.open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        raise DataError("too late")

    with pytest.raises(DataError, match="too late"):
        ledger.append("update", check=stop)
    assert len(ledger.entries()) == 4


def test_a_line_that_may_not_survive_is_taken_back(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    text = lines(ledger)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        ledger.append("update")
    assert lines(ledger) == text


def write(path: Path, name: str) -> None:
    for number in range(10):
        Ledger(path).append("update", id=f"{name}{number}")


def test_two_writers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=write, args=(path, name)) for name in "ab"]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert [e.seq for e in Ledger(path).entries()] == list(range(1, 21))
    assert {e.id for e in Ledger(path).entries()} == {f"{name}{n}" for name in "ab" for n in range(10)}


@pytest.mark.parametrize("text", ["null\n", "3\n", "{}\n", "[" * 100_000 + "\n", '{"seq": 1}\n', "\xff\n", "\n"])
def test_whatever_a_line_holds_it_is_a_flaw(tmp_path: Path, text: str) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.path.write_text(text, encoding="latin-1")
    assert [flaw.line for flaw in ledger.flaws()] == [1]


def shell(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(a) for a in arguments])
    return int(stopped.value.code or 0)


def test_the_shell_checks_and_shows(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell("ledger", "check", ledger.path) == 0
    assert ledger.head in capsys.readouterr().out
    assert shell("ledger", "show", ledger.path, "--json") == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == ["u0", "u1", "u2", "u3"]
    assert shell("ledger", "check", ledger.path, "--head", "12345678") == 1
    assert shell("ledger", "check", ledger.path, "--head", "") == 2
    ledger.path.write_text("".join(lines(ledger)[1:]))
    assert shell("ledger", "check", ledger.path) == 1
    assert "line 1 is entry 2" in capsys.readouterr().out
    for verb in ("check", "show"):
        assert shell("ledger", verb, "nowhere") == 2
        assert "'nowhere' is no file" in capsys.readouterr().err
