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

    What is at ``target`` is replaced only then, and only if it is an empty folder or one that holds the file
    ``replaces`` (an earlier output of the same kind). Raises DataError for anything else, before the block begins.
    """
    _refuse_to_replace(target, replaces)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    staging.chmod(0o755)
    try:
        yield staging
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent)) if target.exists() else None
        if old is not None:
            target.replace(old / target.name)
        staging.replace(target)
        if old is not None:
            shutil.rmtree(old)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _refuse_to_replace(target: Path, replaces: str | None) -> None:
    if not target.exists() and not target.is_symlink():
        return
    is_ours = replaces is not None and (target / replaces).is_file()
    if not target.is_dir() or (any(target.iterdir()) and not is_ours):
        raise DataError(f"'{target}' exists and is not ours to replace; name a new folder, or remove it first")


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
