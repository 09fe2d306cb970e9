"""Which images people are being shown by other processes that write to the same answers: a small file beside these.

It is a courtesy, not a record: damaged it is begun anew, and what a killed process left in it lapses.
"""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

_AHEAD_SECONDS = 5.0  # clocks of several machines differ by so much


def is_shown(at: float, *, now: float, seconds: float) -> bool:
    """Whether what was shown ``at`` still counts; a time to come is of a clock that was set back since."""
    return now - seconds < at <= now + _AHEAD_SECONDS


class ShownFile:
    """Images by SHA-256 and when they were shown, of every session; ``lock`` is held to read and write."""

    def __init__(self, answers: Path, *, seconds: float, clock: Callable[[], float]) -> None:
        self._path = answers.with_name(f".{answers.name}.shown")
        self.lock = FileLock(answers.with_name(f".{answers.name}.shown.lock"))
        self._seconds, self._clock = seconds, clock
        self._session = os.urandom(8).hex()

    def elsewhere(self) -> frozenset[str]:
        """What other sessions show at present."""
        return frozenset(sha256 for shown in self._others().values() for sha256 in shown)

    def replace(self, ours: Mapping[str, float]) -> None:
        """Tell the others what this session shows, and since when."""
        found = self._others() | ({self._session: dict(ours)} if ours else {})
        self._path.write_text(json.dumps(found), encoding="utf-8")

    def _others(self) -> dict[str, dict[str, float]]:
        now = self._clock()
        found: dict[str, dict[str, float]] = {}
        with suppress(OSError, ValueError, TypeError, AttributeError):
            for session, shown in json.loads(self._path.read_text(encoding="utf-8")).items():
                fresh = {key: at for key, at in shown.items() if is_shown(at, now=now, seconds=self._seconds)}
                if fresh and session != self._session:
                    found[session] = fresh
        return found
