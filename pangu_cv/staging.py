"""Outputs appear whole or not at all: written under a temporary name beside the target, then moved into place."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pangu_cv.errors import DataError


@contextmanager
def staged_folder(target: Path, *, replaces: str | None = None) -> Iterator[Path]:
    """A temporary folder that becomes ``target`` when the block ends well and vanishes when it does not.

    What is at ``target``, or where it links to, is replaced only then, and only if it is an empty folder or one that
    holds the file ``replaces`` (an earlier output of the same kind). Raises DataError for anything else, before the
    block begins.
    """
    named, target = target, Path(os.path.realpath(target))  # a link stays one: it may lead to a larger disk
    _refuse_to_replace(target, replaces, named)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    staging.chmod(0o755)
    try:
        yield staging
        _put(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _put(staging: Path, target: Path) -> None:
    """Move into place; where that fails, what was there is there again."""
    if not target.exists():
        staging.replace(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    old = aside / target.name
    try:
        target.replace(old)
        staging.replace(target)
    except OSError:
        if old.exists():
            old.replace(target)
        aside.rmdir()
        raise
    shutil.rmtree(aside)


def _refuse_to_replace(target: Path, replaces: str | None, named: Path) -> None:
    """``named`` is the target as the user wrote it."""
    if not target.exists() and not target.is_symlink():  # only a ring of links is one still
        return
    is_ours = replaces is not None and (target / replaces).is_file()
    if not target.is_dir() or (any(target.iterdir()) and not is_ours):
        raise DataError(f"'{named}' exists and is not ours to replace; name a new folder, or remove it first")
    if Path.cwd().is_relative_to(target) or os.path.ismount(target):
        raise DataError(
            f"'{named}' is the folder this runs in, one above it, or a disk of its own, which cannot be replaced; "
            f"name a new folder, for example '{named / 'out'}'"
        )


def write_text(target: Path, text: str) -> None:
    """Write a text file whole or not at all; bytes of file names that are no UTF-8 become escapes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(target: Path, value: Any) -> None:
    """Write JSON whole or not at all; NaN is refused, since few readers take it."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
