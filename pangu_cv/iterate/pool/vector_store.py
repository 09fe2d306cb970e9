"""Vectors of any number of images on disk: only ever appended to, read through a memory map, whole after a crash.

``rows.jsonl`` says which image each row of ``vectors.f16`` belongs to. A row counts once its line is whole; what a
crash left beyond the last whole line is cut off at the next start.

Shapes: N images, D numbers of each.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from pangu_cv.errors import DataError


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image as it was when it was embedded; ``odd`` is its oddity."""

    path: str
    size: int
    changed_ns: int
    sha256: str
    odd: float


class VectorStore:
    """A folder of vectors of one network; one process writes at a time."""

    def __init__(self, folder: Path, *, width: int) -> None:
        """Open for appending; raises DataError where another process does, or the folder is of other vectors."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.width = folder, width
        self._lock = FileLock(folder / "lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise DataError(f"{folder}: another process embeds into it; wait for it, or give another folder") from None
        try:
            self._images = _repaired(folder, width)
            self._rows = {image.path: row for row, image in enumerate(self._images)}
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def written(self) -> int:
        """Rows, those that a later one replaces included."""
        return len(self._images)

    @property
    def images(self) -> list[StoredImage]:
        """Every image once, as it was embedded last, in the order of ``rows``."""
        return [self._images[row] for row in self._rows.values()]

    @property
    def rows(self) -> NDArray[np.int64]:
        """For each of ``images`` its row of ``vectors``."""
        return np.fromiter(self._rows.values(), np.int64, len(self._rows))

    def vectors(self) -> NDArray[np.float16]:
        """All rows, mapped: [rows, D]; what is read of it is all that enters memory."""
        path = self.folder / "vectors.f16"
        if not self._images:
            return np.zeros((0, self.width), np.float16)
        return np.memmap(path, np.float16, "r", shape=(len(self._images), self.width))

    def holds(self, path: str, size: int, changed_ns: int) -> bool:
        """Whether the file was embedded in this state."""
        row = self._rows.get(path)
        image = None if row is None else self._images[row]
        return image is not None and (image.size, image.changed_ns) == (size, changed_ns)

    def append(self, images: Sequence[StoredImage], vectors_ND: NDArray[Any]) -> None:
        """Add rows; an image that is there already counts as it is now."""
        assert vectors_ND.shape == (len(images), self.width)
        with (self.folder / "vectors.f16").open("ab") as stream:
            stream.write(vectors_ND.astype(np.float16).tobytes())
            stream.flush()
            os.fsync(stream.fileno())
        with (self.folder / "rows.jsonl").open("a", encoding="utf-8") as lines:
            lines.writelines(json.dumps([i.path, i.size, i.changed_ns, i.sha256, i.odd]) + "\n" for i in images)
        for image in images:
            self._rows[image.path] = len(self._images)
            self._images.append(image)


def _repaired(folder: Path, width: int) -> list[StoredImage]:
    """What is stored, with both files cut to the rows that are whole in both."""
    values, lines = folder / "vectors.f16", folder / "rows.jsonl"
    values.touch()
    lines.touch()
    stored = values.stat().st_size // (2 * width)
    images: list[StoredImage] = []
    end = 0
    with lines.open("rb") as stream:
        for line in stream:
            if not line.endswith(b"\n") or len(images) == stored:
                break
            try:
                path, size, changed_ns, sha256, odd = json.loads(line)
                images.append(StoredImage(str(path), int(size), int(changed_ns), str(sha256), float(odd)))
            except (ValueError, TypeError):
                raise DataError(f"{lines}: byte {end} begins a line that is no record; remove the folder") from None
            end += len(line)
    os.truncate(lines, end)
    os.truncate(values, 2 * width * len(images))
    return images
