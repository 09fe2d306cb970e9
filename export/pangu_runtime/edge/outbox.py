"""How decided images leave the inbox, and never one that a camera has put under their name meanwhile."""

import logging
import os
import shutil
from pathlib import Path
from typing import Literal

from pangu_runtime.edge.inbox import TAKEN, Arrived

log = logging.getLogger("pangu_runtime.edge")

_LONGEST_NAME = 255  # bytes, of most file systems
After = Literal["move", "keep", "delete"]


class Outbox:
    """Moves images to ``done`` or ``unreadable`` of a folder, deletes them, or keeps them where they are.

    Where they are deleted, those without a decision are moved all the same: want of memory may have passed by tomorrow.
    """

    def __init__(self, folder: Path, *, after: After) -> None:
        self._folder, self._after = folder, after

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
                shutil.move(taken, target)
        except FileNotFoundError:
            pass
        except OSError as error:  # it has its line: the next look takes it away
            log.error("%s: cannot be taken away (%s)", image.name, error)


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
