"""Between two mounts, a rename is a copy: whole and on disk, or not there."""

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from pangu_runtime.edge.durable import move
from pangu_runtime.edge.inbox import Inbox
from pangu_runtime.edge.outbox import Outbox


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In an inbox that lies on another mount than the output."""
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "cam.png").write_bytes(bytes(3000))
    os.utime(tmp_path / "inbox" / "cam.png", (1_000_000, 1_000_000))

    def rename(source: Any, target: Any, **_: Any) -> None:
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        os.replace(source, target)  # noqa: PTH105, Path's own calls what this test replaces

    monkeypatch.setattr(os, "rename", rename)
    return tmp_path / "inbox" / "cam.png"


def test_a_copy_is_on_disk_before_the_source_goes(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order, fsync, unlink = [], os.fsync, Path.unlink

    def syncing(descriptor: int) -> None:
        order.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def unlinking(path: Path, **options: Any) -> None:
        order.extend([path.name] if path == image else [])
        unlink(path, **options)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(Path, "unlink", unlinking)
    move(image, tmp_path / "cam.png")
    assert order == ["file", "folder", "cam.png"]
    assert not image.exists()
    assert (tmp_path / "cam.png").read_bytes() == bytes(3000)
    assert (tmp_path / "cam.png").stat().st_mtime == 1_000_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cam.png", "inbox"]


def test_half_a_copy_is_not_left_under_any_name(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox, outbox = Inbox(image.parent, settle_s=0), Outbox(tmp_path / "out", after="move")

    def half(source: Any, target: Any, *_: Any) -> None:
        target.write(source.read(1000))
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(shutil, "copyfileobj", half)
        for _ in range(3):
            [found] = inbox.arrived()
            outbox.take(found, is_decided=True)
    assert list((tmp_path / "out" / "done").iterdir()) == []
    [found] = inbox.arrived()
    outbox.take(found, is_decided=True)
    assert [path.name for path in (tmp_path / "out" / "done").iterdir()] == ["cam.png"]
    assert (tmp_path / "out" / "done" / "cam.png").read_bytes() == bytes(3000)
    assert list(image.parent.iterdir()) == []


def test_a_source_that_may_not_go_leaves_no_copy(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink = Path.unlink

    def refusing(path: Path, **options: Any) -> None:
        if path == image:
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", refusing)
    for _ in range(2):
        with pytest.raises(PermissionError):
            move(image, tmp_path / "cam.png")
    assert image.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["inbox"]


def test_a_mount_without_times_and_modes_takes_a_copy(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(shutil, "copystat", refused)
    move(image, tmp_path / "cam.png")
    assert not image.exists()
    assert (tmp_path / "cam.png").read_bytes() == bytes(3000)


def test_what_cannot_be_renamed_for_another_reason_is_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cam.png").touch()

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "rename", refused)
    with pytest.raises(PermissionError):
        move(tmp_path / "cam.png", tmp_path / "other.png")
    assert [path.name for path in tmp_path.iterdir()] == ["cam.png"]
