"""Images that arrive in a folder, each once it is complete."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path
from typing import TypeVar

from pangu_runtime.images import is_image_name

log = logging.getLogger("pangu_runtime.edge")

TAKEN = ".taken-"  # before a name: this file is on its way out, and no camera writes to it
_MOST_HELD = 5000  # images of a folder at a time, some MB: a million may wait

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Arrived:
    """A complete image file; ``name`` is relative to the inbox, with ``/``, and text whatever its bytes are.

    ``sha256`` is given where name, size and time are not enough to tell it from an earlier one.
    """

    path: Path
    name: str
    size: int
    modified_ns: int
    inode: int
    sha256: str = ""

    @property
    def key(self) -> str:
        """What makes it this image and no other: a camera may use a name again."""
        return f"{self.name}|{self.size}|{self.modified_ns}" + (f"|{self.sha256}" if self.sha256 else "")

    def is_still(self, about: os.stat_result) -> bool:
        """Whether a file is the one that was found, and neither changed nor replaced since."""
        is_same = (about.st_size, about.st_mtime_ns) == (self.size, self.modified_ns)
        return is_same and self.inode in (0, about.st_ino)  # 0: Windows does not tell while listing a folder


class Inbox:
    """A folder and those below it. A file is complete when it has not changed for ``settle_s``.

    Writers that rename a finished file into place are served at once with ``settle_s`` 0. However many files a folder
    has, a bounded number of them is held at a time.
    """

    def __init__(self, folder: Path, *, settle_s: float) -> None:
        self.folder, self._settle_s = folder, settle_s
        self._named: set[str] = set()
        self.is_settling = False
        """Whether the last look, where it went to its end, saw images that are not complete yet."""

    def arrived(self, *, unless: Callable[[Arrived], bool] = lambda _: False) -> Iterator[Arrived]:
        """Complete images, the oldest of each folder first, and none for which ``unless`` is true.

        What vanishes meanwhile is not there; what may not be looked at is named once. Raises OSError for the inbox
        itself, and what ``unless`` raises.
        """
        self.is_settling = False
        yield from self._below(self.folder, "", unless)

    def _below(self, folder: Path, prefix: str, unless: Callable[[Arrived], bool]) -> Iterator[Arrived]:
        """What arrives after the look began is for the next one, or a busy folder would hide those after it."""
        began_ns, last = time.time_ns(), (-math.inf, "")
        while last[0] < began_ns and (held := self._oldest(folder, prefix, unless, after=last)):
            yield from held
            last = _age(held[-1])
            if len(held) < _MOST_HELD:
                break
        for name in sorted(self._seen(folder, _folder_name)):
            yield from self._below(folder / name, f"{prefix}{name}/", unless)

    def _oldest(
        self, folder: Path, prefix: str, unless: Callable[[Arrived], bool], *, after: tuple[float, str]
    ) -> list[Arrived]:
        complete = self._seen(folder, lambda entry: self._image(entry, prefix))
        return nsmallest(_MOST_HELD, (one for one in complete if _age(one) > after and not unless(one)), key=_age)

    def _seen(self, folder: Path, look: Callable[[os.DirEntry[str]], _Found | None]) -> Iterator[_Found]:
        """What ``look`` finds among a folder's entries; one that cannot be looked at does not hide the others."""
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    try:
                        found = look(entry)
                    except OSError as error:
                        self._pass_over(entry.path, error)
                        continue
                    if found is not None:
                        yield found
        except OSError as error:
            if folder == self.folder and not isinstance(error, FileNotFoundError):
                raise
            self._pass_over(str(folder), error)

    def _image(self, entry: os.DirEntry[str], prefix: str) -> Arrived | None:
        given = entry.name.removeprefix(TAKEN)
        if not (is_image_name(given) and entry.is_file()):
            return None
        about = entry.stat()
        # A clock that was set back must not keep an image waiting for ever.
        if 0 <= time.time_ns() - about.st_mtime_ns < self._settle_s * 1e9:
            self.is_settling = True
            return None
        name = os.fsencode(prefix + given).decode("utf-8", "backslashreplace")
        return Arrived(Path(entry.path), name, about.st_size, about.st_mtime_ns, about.st_ino)

    def _pass_over(self, path: str, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError) and path not in self._named:
            log.error("%s: %s; nothing of it is decided", path, error.strerror)
            self._named.add(path)


def _age(image: Arrived) -> tuple[float, str]:
    return image.modified_ns, image.name


def _folder_name(entry: os.DirEntry[str]) -> str | None:
    return entry.name if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".") else None
