"""Which image is being decided, so that one at which the process dies again and again does not stop the line."""

import json
from contextlib import suppress
from pathlib import Path

from pangu_runtime.edge.journal import Journal
from pangu_runtime.errors import RuntimeLimitError

_MOST_DEATHS = 5  # so many that nobody's own kills, falling where they like, are taken for an image's fault


class Begun:
    """One line in a file, written over at each image: those that were begun and have no line, and how often.

    It is not synced, which would cost more than a small image's decision: what is written outlives the process, and
    power loss is no image's fault.
    """

    def __init__(self, path: Path, *, decided: Journal) -> None:
        """``decided`` tells which keys have their line: a process may die between it and the next image."""
        path.touch()
        self._stream = path.open("r+b", buffering=0)
        self._deaths = {key: count for key, count in _read(self._stream.readline()).items() if key not in decided}

    def begin(self, key: str) -> None:
        """Before an image is decoded. Raises RuntimeLimitError where the process died at it too often."""
        deaths = self._deaths.get(key, 0)
        if deaths >= _MOST_DEATHS:
            raise RuntimeLimitError(
                f"the watcher died {deaths} times while it decided this image, for want of memory perhaps; make it "
                "smaller or allow more memory, then touch it and put it into the inbox again"
            )
        self._write(self._deaths | {key: deaths + 1})

    def end(self, key: str) -> None:
        """After its line was written."""
        self._deaths.pop(key, None)

    def close(self) -> None:
        """Let go of the file; who comes so far has not died at an image."""
        with suppress(OSError):  # a full disk
            self._write(self._deaths)
        self._stream.close()

    def _write(self, deaths: dict[str, int]) -> None:
        self._stream.seek(0)
        self._stream.write(json.dumps(deaths).encode() + b"\n")


def _read(line: bytes) -> dict[str, int]:
    """Nothing where power loss has left no sound line."""
    try:
        return {str(key): int(count) for key, count in json.loads(line).items()}
    except (ValueError, TypeError, AttributeError):
        return {}
