"""Folders as they are at the line: with files that vanish, links that lead nowhere, and very many files."""

import logging
import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pangu_runtime.edge import inbox as module
from pangu_runtime.edge.inbox import Inbox
from tests.finetune.tiny import COLOURS, Made, picture, save
from tests.runtime.edge.test_watch import inbox_of, lines, watch


def files(folder: Path, count: int) -> None:
    """Each older than the one before."""
    for number in range(count):
        (folder / f"{number}.png").touch()
        os.utime(folder / f"{number}.png", (1_000_000 - number, 1_000_000 - number))


def names(inbox: Inbox) -> list[str]:
    return [image.name for image in inbox.arrived()]


def test_a_link_in_a_circle_is_named_once_and_the_others_are_decided(
    classify: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = inbox_of(tmp_path, 1)
    save(inbox / "a.png", picture(COLOURS["red"], 1))
    (inbox / "circle.png").symlink_to("circle.png")
    watcher = watch(classify, tmp_path)
    with caplog.at_level(logging.ERROR):
        assert watcher.run(once=True) == 2
    watcher.close()
    assert {line["image"] for line in lines(tmp_path)} == {"a.png", "line0/0.png"}
    assert caplog.text.count("circle.png: Too many levels of symbolic links") == 1


def test_a_file_that_vanishes_meanwhile_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files(tmp_path, 3)
    scan = os.scandir

    @contextmanager
    def scanning(path: Any) -> Iterator[Any]:
        with scan(path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        (Path(path) / "1.png").unlink(missing_ok=True)
        yield iter(entries)

    monkeypatch.setattr(os, "scandir", scanning)
    monkeypatch.setattr(module, "is_image_name", lambda name: name.endswith(".png"))
    assert names(Inbox(tmp_path, settle_s=0)) == ["2.png", "0.png"]
    assert caplog.text == ""


def test_once_waits_for_what_has_only_just_been_copied(classify: Made, tmp_path: Path) -> None:
    inbox_of(tmp_path, 3)
    watcher = watch(classify, tmp_path, settle_s=0.4)
    assert watcher.run(once=True) == 3
    watcher.close()


def test_the_oldest_come_first_however_few_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_HELD", 3)
    for count in (2, 3, 7):
        (tmp_path / f"{count}" / "below").mkdir(parents=True)
        files(tmp_path / f"{count}", count)
        files(tmp_path / f"{count}" / "below", 4)
        expected = [f"{number}.png" for number in reversed(range(count))]
        expected += [f"below/{number}.png" for number in reversed(range(4))]
        assert names(Inbox(tmp_path / f"{count}", settle_s=0)) == expected


def test_a_folder_that_fills_as_fast_as_it_is_decided_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_HELD", 1)
    for folder in ("line0", "line1"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "first.png").touch()
    decided = []
    for image in Inbox(tmp_path, settle_s=0).arrived():
        decided.append(image.name)
        (tmp_path / "line0" / f"{len(decided)}.png").touch()
        if image.name.startswith("line1") or len(decided) > 50:
            break
    assert decided[-1] == "line1/first.png"


def test_a_file_of_the_same_size_and_time_in_its_place_is_another(tmp_path: Path) -> None:
    files(tmp_path, 1)
    (found,) = Inbox(tmp_path, settle_s=0).arrived()
    assert found.is_still(found.path.stat())
    (tmp_path / "new").mkdir()
    files(tmp_path / "new", 1)
    (tmp_path / "new" / "0.png").replace(found.path)
    assert not found.is_still(found.path.stat())


@pytest.mark.parametrize("is_kept", [True, False])
def test_memory_does_not_grow_with_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_kept: bool) -> None:
    def entry(number: int) -> Any:
        about = SimpleNamespace(st_size=1, st_mtime_ns=number, st_ino=number)
        name = f"{number}.png"
        return SimpleNamespace(
            name=name, path=name, is_file=lambda: True, stat=lambda: about, is_dir=lambda follow_symlinks: False
        )

    @contextmanager
    def scanning(_: Any) -> Iterator[Any]:
        yield (entry(number) for number in range(2000))

    monkeypatch.setattr(os, "scandir", scanning)
    monkeypatch.setattr(module, "_MOST_HELD", 200)
    inbox = Inbox(tmp_path, settle_s=0)
    tracemalloc.start()
    try:
        assert sum(1 for _ in inbox.arrived(unless=lambda _: is_kept)) == (0 if is_kept else 2000)
        assert tracemalloc.get_traced_memory()[1] < (0.2e6 if is_kept else 0.5e6)  # bytes
    finally:
        tracemalloc.stop()


def test_kept_images_are_not_held(classify: Made, tmp_path: Path) -> None:
    inbox_of(tmp_path, 2)
    watcher = watch(classify, tmp_path, after="keep")
    assert watcher.run(once=True) == 2
    assert list(watcher.inbox.arrived(unless=watcher._stays)) == []
    watcher.close()
