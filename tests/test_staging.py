"""Outputs are there whole or not at all, and nothing is left beside them."""

import errno
import os
from pathlib import Path

import pytest

from pangu_cv.errors import DataError
from pangu_cv.staging import staged_folder, write_text


def write(target: Path, text: str) -> None:
    with staged_folder(target, replaces="a.txt") as staging:
        (staging / "a.txt").write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_one_and_its_folder_is_what_is_written(is_there: bool, tmp_path: Path) -> None:
    disk, link = tmp_path / "disk", tmp_path / "here" / "out"
    link.parent.mkdir()
    disk.mkdir()
    if is_there:
        write(disk / "big", "old")
    link.symlink_to(disk / "big")
    write(link, "new")
    assert link.is_symlink()
    assert (disk / "big" / "a.txt").read_text() == "new"
    assert (names(disk), names(link.parent)) == (["big"], ["out"])


@pytest.mark.parametrize("target", [".", "..", "../here"])
def test_folder_that_this_runs_in_is_refused_at_once(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "a.txt").touch()  # so that the one above might be replaced
    monkeypatch.chdir(here)
    with pytest.raises(DataError, match=r"is the folder this runs in, one above it, .* for example"):
        write(Path(target), "new")
    assert names(tmp_path) == ["a.txt", "here"]
    assert names(here) == []


def test_disk_of_its_own_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "disk")
    with pytest.raises(DataError, match="a disk of its own"):
        write(tmp_path / "disk", "new")
    assert names(tmp_path) == ["disk"]


@pytest.mark.parametrize("fails_at", [1, 2])
def test_what_cannot_be_replaced_stays_as_it_was(
    fails_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "out", "old")
    replace, moves = Path.replace, []

    def busy(self: Path, target: Path) -> Path:
        moves.append(self)
        if len(moves) == fails_at:
            raise OSError(errno.EBUSY, "Device or resource busy", str(self))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", busy)
    with pytest.raises(OSError, match="busy"):
        write(tmp_path / "out", "new")
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "a.txt").read_text() == "old"


def test_half_a_text_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a.txt", "old")

    def half(self: Path, text: str, **_: object) -> None:
        self.write_bytes(text[:1].encode())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "a.txt", "new")
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"
