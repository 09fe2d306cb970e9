"""Where an update writes: a folder without a model, and nobody else's until the update has ended."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pangu_cv.errors import SettingsError


@contextmanager
def held(output: Path) -> Iterator[None]:
    """Keep other updates out of the folder; raises SettingsError where one is at work there, or a model lies there."""
    folder = output.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # goes with the process, however that ends
        except BlockingIOError:
            raise SettingsError(
                f"--out: another update is writing to '{output}' now; name another folder, or wait for its end"
            ) from None
        _require_free(output)
        yield


def _require_free(output: Path) -> None:
    if (output / "model").exists() or (output / "model.json").exists():
        raise SettingsError(f"--out: '{output}' holds a model already; name a new folder, the old model stays for good")
