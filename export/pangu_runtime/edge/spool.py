"""A folder of files that may grow to a number of bytes; then the oldest go."""

import os
from pathlib import Path


class Spool:
    """Files are written to a temporary name and moved into place, so that a crash leaves whole files only."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder, self._max_bytes = folder, max_bytes
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.part"):
            left.unlink()
        self._bytes = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())

    def put(self, name: str, content: bytes) -> Path:
        """Write a file, in the place of an older one of its name."""
        target, temporary = self.folder / name, self.folder / f".{name}.part"
        before = target.stat().st_size if target.exists() else 0
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())  # what is not made again must not be empty after power loss
        temporary.replace(target)
        self._bytes += len(content) - before
        if self._bytes > self._max_bytes:
            self._make_room()
        return target

    def _make_room(self) -> None:
        """Down to nine tenths, so that not every file looks through the folder."""
        files = sorted((f.stat().st_mtime_ns, f.stat().st_size, f) for f in self.folder.iterdir() if f.is_file())
        self._bytes = sum(size for _, size, _ in files)
        for _, size, file in files[:-1]:  # the newest stays, whatever its size
            if self._bytes <= 0.9 * self._max_bytes:
                break
            file.unlink()
            self._bytes -= size
