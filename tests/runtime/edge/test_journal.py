import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pangu_runtime.edge.journal import Journal
from pangu_runtime.errors import DataError


def lines(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("results-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def filled(folder: Path, *keys: str, **options: Any) -> Journal:
    journal = Journal(folder, **options)
    for key in keys:
        journal.add([{"key": key, "label": "x"}])
    return journal


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The inodes of what was synced, in order."""
    real, inodes = os.fsync, []
    monkeypatch.setattr(os, "fsync", lambda stream: (inodes.append(os.fstat(stream).st_ino), real(stream))[1])
    return inodes


def test_lines_and_the_names_of_their_files_survive_power_loss(tmp_path: Path, synced: list[int]) -> None:
    filled(tmp_path, "a", "b", max_file_bytes=40).close()
    first, second = (path.stat().st_ino for path in sorted(tmp_path.glob("results-*.jsonl")))
    folder = tmp_path.stat().st_ino
    assert synced == [folder, first, folder, second]
    with (tmp_path / "results-00002.jsonl").open("ab") as stream:
        stream.write(b'{"key": "to')
    filled(tmp_path).close()
    assert synced[4:] == [second]  # a torn line that came back would run into the next one


def test_what_was_added_is_there_the_next_time(tmp_path: Path) -> None:
    filled(tmp_path, "a", "b").close()
    again = filled(tmp_path, "c")
    assert [key in again for key in "abcd"] == [True, True, True, False]
    assert [one["key"] for one in lines(tmp_path)] == ["a", "b", "c"]
    assert len(again) == 3
    again.close()


@pytest.mark.parametrize("torn", [b'{"key": "c"', b'{"key": "c", "label": "x"}', b"\0" * 5000, b"{"])
def test_a_torn_line_is_cut_off_and_its_image_is_new_again(tmp_path: Path, torn: bytes) -> None:
    filled(tmp_path, "a", "b").close()
    with (tmp_path / "results-00001.jsonl").open("ab") as stream:
        stream.write(torn)
    again = filled(tmp_path)
    assert "c" not in again
    again.add([{"key": "c"}])
    again.close()
    assert [one["key"] for one in lines(tmp_path)] == ["a", "b", "c"]


@pytest.mark.parametrize("damage", ["gone", "garbage", "late", "early"])
def test_the_index_is_made_again_from_the_lines(tmp_path: Path, damage: str) -> None:
    filled(tmp_path, "a", "b").close()
    index = tmp_path / "index.sqlite"
    if damage == "gone":
        index.unlink()
    elif damage == "garbage":
        index.write_bytes(b"no database" * 1000)
    elif damage == "late":  # the line was synced, and then the power went
        with (tmp_path / "results-00001.jsonl").open("a") as stream:
            stream.write('{"key": "c"}\n')
    else:  # the index knows of lines that somebody took away
        (tmp_path / "results-00001.jsonl").write_text('{"key": "a"}\n')
    again = filled(tmp_path)
    expected = {"late": [True, True, True], "early": [True, False, False]}.get(damage, [True, True, False])
    assert [key in again for key in "abc"] == expected
    again.close()


def test_files_turn_at_their_size_and_all_are_known(tmp_path: Path) -> None:
    keys = [f"image {number}" for number in range(40)]
    filled(tmp_path, *keys, max_file_bytes=200).close()
    assert len(list(tmp_path.glob("results-*.jsonl"))) > 5
    (tmp_path / "index.sqlite").unlink()
    again = filled(tmp_path, max_file_bytes=200)
    assert all(key in again for key in keys)
    again.close()
    assert [one["key"] for one in lines(tmp_path)] == keys


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    filled(tmp_path, "a").close()
    (tmp_path / "index.sqlite").unlink()
    (tmp_path / "results-00001.jsonl").write_text('{"key": "a"}\nnonsense\n')
    with pytest.raises(DataError, match="byte 13 begins a line that is no record"):
        Journal(tmp_path)


def test_one_watcher_a_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pangu_runtime.edge.journal import Journal; Journal(__import__('pathlib').Path(sys.argv[1]))"
    )
    journal = Journal(tmp_path)
    other = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert "another watcher writes here" in other.stderr
    journal.close()
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)


def test_half_a_line_on_a_full_disk_is_gone_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = filled(tmp_path, "a")
    write = os.write

    def full(descriptor: int, text: bytes) -> int:
        if len(text) > 4:
            return write(descriptor, text[:4])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            journal.add([{"key": "b"}])
    assert "b" not in journal
    journal.add([{"key": "b", "sha256": "0f"}])
    assert [one["key"] for one in lines(tmp_path)] == ["a", "b"]
    assert journal.sha256("b") == "0f"
    journal.close()


def test_a_line_counts_though_the_index_took_it_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = filled(tmp_path, "a")

    def full(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as disk:
        disk.setattr(journal, "_note", full)
        journal.add([{"key": "b"}])
    assert "b" in journal
    journal.add([{"key": "c"}])
    journal.close()
    again = filled(tmp_path)
    assert [key in again for key in "abcd"] == [True, True, True, False]
    again.close()


def test_an_index_of_an_earlier_version_is_made_anew(tmp_path: Path) -> None:
    filled(tmp_path, "a").close()
    (tmp_path / "index.sqlite").unlink()
    with sqlite3.connect(tmp_path / "index.sqlite") as old:
        old.execute("CREATE TABLE seen (key TEXT PRIMARY KEY) WITHOUT ROWID")
        old.execute("CREATE TABLE read (file TEXT PRIMARY KEY, end INTEGER)")
        old.execute("INSERT INTO seen VALUES ('x')")
    old.close()
    again = filled(tmp_path)
    assert ("a" in again, "x" in again) == (True, False)
    again.close()


def test_a_full_disk_at_the_turn_of_files_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = filled(tmp_path, "a", max_file_bytes=50)
    write = os.write

    def half(descriptor: int, text: bytes) -> int:
        if len(text) > 4:
            return write(descriptor, text[:4])
        raise OSError(28, "No space left on device")

    def no_file(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(28, f"No space left on device: {path}")

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space left"):
            journal.add([{"key": "b"}])
    with monkeypatch.context() as disk:
        disk.setattr(Path, "touch", no_file)
        with pytest.raises(OSError, match="No space left"):
            journal.add([{"key": "b" * 20}])
    journal.add([{"key": "b" * 20}])
    journal.close()
    assert len(sorted(tmp_path.glob("results-*.jsonl"))) == 2
    again = filled(tmp_path)
    assert [one["key"] for one in lines(tmp_path)] == ["a", "b" * 20]
    assert len(again) == 2
    again.close()


def test_files_that_are_not_the_journals_are_passed_over(tmp_path: Path) -> None:
    filled(tmp_path, "a").close()
    others = [tmp_path / name for name in ("results-backup.jsonl", "results-.jsonl", "results-00001-old.jsonl")]
    for other in others:
        other.write_text('{"key": "x"}\n{"key": "to')
    again = filled(tmp_path, "b")
    assert ("a" in again, "x" in again) == (True, False)
    again.close()
    assert {other.read_text() for other in others} == {'{"key": "x"}\n{"key": "to'}
    assert (tmp_path / "results-00001.jsonl").read_text().count("\n") == 2


def test_whether_a_line_tells_an_error_is_known(tmp_path: Path) -> None:
    journal = filled(tmp_path, "a")
    journal.add([{"key": "b", "error": "truncated", "message": "cut off"}])
    journal.close()
    (tmp_path / "index.sqlite").unlink()
    again = filled(tmp_path)
    assert [again.has_error(key) for key in "abc"] == [False, True, False]
    again.close()


@pytest.mark.parametrize("page", ["inner", "leaf"])
@pytest.mark.parametrize("garbage", [b"\xff", b"\0"])
def test_an_index_whose_pages_are_damaged_is_made_again(tmp_path: Path, page: str, garbage: bytes) -> None:
    journal = filled(tmp_path)
    keys = [f"image {number:04d}" for number in range(2000)]
    journal.add([{"key": key} for key in keys])
    [(root,)] = journal._index.execute("SELECT rootpage FROM sqlite_master WHERE name = 'seen'").fetchall()
    [(size,)] = journal._index.execute("PRAGMA page_size").fetchall()
    journal.close()
    with (tmp_path / "index.sqlite").open("rb+") as stream:
        start = (root - 1) * size if page == "inner" else stream.seek(0, os.SEEK_END) - size
        stream.seek(start)
        stream.write(garbage * size)
    again = filled(tmp_path, "new")
    assert all(key in again for key in [*keys, "new"])
    assert len(again) == 2001
    again.close()


def test_an_index_that_is_damaged_meanwhile_ends_the_watcher_and_the_next_start_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting, as for a full disk, would be for ever."""
    journal = filled(tmp_path, "a")

    def damaged(*_: Any, **__: Any) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    with monkeypatch.context() as disk:
        disk.setattr(journal, "_index", type("Index", (), {"execute": damaged, "close": journal._index.close})())
        with pytest.raises(DataError, match="malformed; start again"):
            journal.sha256("a")
        disk.setattr(journal, "_note", damaged)
        with pytest.raises(DataError, match="malformed; start again"):
            journal.add([{"key": "b"}])
    journal.close()
    again = filled(tmp_path)
    assert [key in again for key in "abc"] == [True, True, False]
    again.close()


def test_power_loss_does_not_damage_the_index(tmp_path: Path) -> None:
    """As SQLite promises for a log that is synced before its pages are written over."""
    journal = filled(tmp_path)
    modes = [journal._index.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    journal.close()
    assert modes == ["wal", 1]  # NORMAL
