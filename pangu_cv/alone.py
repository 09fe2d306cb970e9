"""One process at a time in a folder, where a second would take what the first is making for its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pangu_cv.errors import PanguError, SettingsError


@contextmanager
def alone(lock: Path, busy: PanguError) -> Iterator[None]:
    """Hold the file ``lock``, its folder made where it is not there; raises ``busy`` where another process holds it.

    The operating system lets go of it when a process dies, however that ends.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise busy from None
    try:
        yield
    finally:
        held.release()


@contextmanager
def new_model(output: Path, *, setting: str) -> Iterator[None]:
    """Keep others out of the folder until its model is written; raises SettingsError where one is at work, or done."""
    folder = output.resolve()
    told = f"{setting}: another process is writing to '{output}' now; name another folder, or wait for its end"
    with alone(folder.with_name(f".{folder.name}.lock"), SettingsError(told)):
        require_no_model(output, setting=setting)
        yield


def require_no_model(output: Path, *, setting: str) -> None:
    """Raise SettingsError where the folder holds a model, which would be written over."""
    if (output / "model").exists() or (output / "model.json").exists():
        raise SettingsError(
            f"{setting}: '{output}' holds a model already; name a new folder, that model stays for good"
        )
