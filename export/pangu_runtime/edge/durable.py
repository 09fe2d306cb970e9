"""Files that power loss leaves whole: their names in a folder, and their way to another file system."""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """So that a new file's name survives power loss too."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def move(source: Path, target: Path) -> None:
    """Give a file another name, also on another file system: then as a copy that is on disk before the source goes.

    Raises OSError where that cannot be; then the source is there, and nothing of the target.
    """
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target)
        try:
            sync_folder(target.parent)
            source.unlink()
        except OSError:
            target.unlink()
            raise


def _copy(source: Path, target: Path) -> None:
    temporary = target.with_name(".moving.part")  # not longer with the target's name: that may be as long as can be
    try:
        with source.open("rb") as content, temporary.open("wb") as stream:
            shutil.copyfileobj(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        with suppress(OSError):  # times and modes, which not every mount lets be set
            shutil.copystat(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
