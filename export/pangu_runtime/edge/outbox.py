"""How decided images leave the inbox, and never one that a camera has put under their name meanwhile."""

import logging
import os
import time
from pathlib import Path
from typing import Literal

from pangu_runtime.edge.durable import move
from pangu_runtime.edge.inbox import TAKEN, Arrived

log = logging.getLogger("pangu_runtime.edge")

_LONGEST_NAME = 255  # bytes, of most file systems
_REST_S, _LONGEST_REST_S = 5.0, 600.0
_MOST_RESTING = 10_000  # images; one of more is tried again too early
After = Literal["move", "keep", "delete"]


class Outbox:
    """Moves images to ``done`` or ``unreadable`` of a folder, deletes them, or keeps them where they are.

    Where they are deleted, those without a decision are moved all the same: want of memory may have passed by tomorrow.
    """

    def __init__(self, folder: Path, *, after: After) -> None:
        self._folder, self._after = folder, after
        self._resting: dict[str, tuple[float, float]] = {}  # key: until when, and for how long, in seconds

    def is_resting(self, image: Arrived) -> bool:
        """Whether the image could not be taken away, and it is too early to try again."""
        return time.monotonic() < self._resting.get(image.key, (0.0, 0.0))[0]

    def take(self, image: Arrived, *, is_decided: bool) -> None:
        """Out of the inbox; one whose place is taken gets a number. What is not that image any more stays."""
        if self._after == "keep":
            return
        try:
            taken = _taken(image)
            if taken is None:
                return
            if self._after == "delete" and is_decided:
                taken.unlink()
            else:
                target = _free(self._folder / ("done" if is_decided else "unreadable") / image.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                move(taken, target)
            self._resting.pop(image.key, None)
        except FileNotFoundError:
            pass
        except OSError as error:  # it has its line: a later look takes it away
            rest_s = self._rest(image.key)
            log.error("%s: cannot be taken away (%s); tried again after %g s", image.name, error, rest_s)

    def _rest(self, key: str) -> float:
        """Twice as long as the last time, in seconds: what may not leave would be read and told at every look."""
        _, last_s = self._resting.pop(key, (0.0, _REST_S / 2))
        rest_s = min(2 * last_s, _LONGEST_REST_S)
        self._resting[key] = (time.monotonic() + rest_s, rest_s)
        if len(self._resting) > _MOST_RESTING:
            del self._resting[next(iter(self._resting))]
        return rest_s


def _taken(image: Arrived) -> Path | None:
    """Where the image lies under a name that no camera writes to; None where it is another by now.

    The inbox shows files of such names as well, under their old one: what is found to be another only after it was
    renamed, or what a crash has left, is decided or taken away by the next look.
    """
    if not image.is_still(image.path.stat()):
        return None
    if image.path.name.startswith(TAKEN):
        return image.path
    taken = image.path.with_name(TAKEN + image.path.name)
    if len(os.fsencode(taken.name)) > _LONGEST_NAME:
        return image.path
    if os.path.lexists(taken):
        return None
    image.path.rename(taken)
    return taken if image.is_still(taken.stat()) else None


def _free(target: Path) -> Path:
    """The name, or it with a number that is free: looked for by halves, since a camera may use a name for years."""
    taken, free = 0, 1
    while _numbered(target, free).exists():
        taken, free = free, 2 * free
    while free - taken > 1:
        middle = (taken + free) // 2
        taken, free = (middle, free) if _numbered(target, middle).exists() else (taken, middle)
    return _numbered(target, free)


def _numbered(target: Path, number: int) -> Path:
    return target if number == 1 else target.with_name(f"{target.stem}-{number}{target.suffix}")
