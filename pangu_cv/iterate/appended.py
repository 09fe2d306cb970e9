"""A line that is safe once it is written, or not there at all."""

import os
from pathlib import Path

from pangu_cv.errors import DataError


def append_line(path: Path, line: str) -> None:
    """Append a line that survives power loss when this returns; what fails leaves nothing of it.

    Whoever is told that it failed takes back what the line tells of, or sends it again. Raises DataError where the disk
    takes only a part, and OSError.
    """
    content = f"{line}\n".encode()
    with path.open("ab", buffering=0) as stream:
        end = stream.seek(0, os.SEEK_END)
        try:
            if stream.write(content) != len(content):
                raise DataError(f"{path}: only part of a line could be written; is the disk full?")
            os.fsync(stream.fileno())
        except BaseException:
            stream.truncate(end)
            raise
