"""One process at a time in a loop's folder: another would take what the first is making for what a killed run left."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pangu_cv.errors import DataError


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder, made where it is not there; raises DataError where another process holds it.

    The operating system lets go of it when a process dies, so that a killed loop goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(
            f"{folder}: another process runs this loop; wait for it or end it, or name another output"
        ) from None
    try:
        yield
    finally:
        lock.release()
