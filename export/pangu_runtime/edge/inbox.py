"""Images that arrive in a folder, each once it is complete."""

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pangu_runtime.images import is_image_name

log = logging.getLogger("pangu_runtime.edge")

TAKEN = ".taken-"  # before a name: this file is on its way out, and no camera writes to it


@dataclass(frozen=True)
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

    Writers that rename a finished file into place are served at once with ``settle_s`` 0.
    """

    def __init__(self, folder: Path, *, settle_s: float) -> None:
        self.folder, self._settle_s = folder, settle_s
        self._closed: set[Path] = set()

    def arrived(self) -> Iterator[Arrived]:
        """Complete images, the oldest of each folder first; those that vanish meanwhile are not there.

        A folder below that may not be read is named once; raises OSError for the inbox itself.
        """
        yield from self._below(self.folder, "")

    def _below(self, folder: Path, prefix: str) -> Iterator[Arrived]:
        found, folders = [], []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                        folders.append(entry.name)
                    elif is_image_name(given := entry.name.removeprefix(TAKEN)) and entry.is_file():
                        about = entry.stat()
                        name = os.fsencode(prefix + given).decode("utf-8", "backslashreplace")
                        size, modified_ns, inode = about.st_size, about.st_mtime_ns, about.st_ino
                        found.append(Arrived(Path(entry.path), name, size, modified_ns, inode))
        except FileNotFoundError:
            return
        except OSError as error:
            if folder == self.folder:
                raise
            if folder not in self._closed:
                log.error("%s: %s; nothing of it is decided", folder, error.strerror)
                self._closed.add(folder)
            return
        now_ns = time.time_ns()
        for image in sorted(found, key=lambda one: (one.modified_ns, one.name)):
            # A clock that was set back must not keep an image waiting for ever.
            if not 0 <= now_ns - image.modified_ns < self._settle_s * 1e9:
                yield image
        for name in sorted(folders):
            yield from self._below(folder / name, f"{prefix}{name}/")
