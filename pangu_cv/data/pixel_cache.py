"""Images decoded once and reduced to a working size, in one memory-mapped file that all worker processes share.

A folder holds ``pixels.bin``, to which images are appended, and ``index.jsonl``, a line for each, written after its
pixels: whatever a killed run leaves is valid up to the last whole line. An image beyond the size limit has a line too,
without a place among the pixels, so that it need not be decoded again to know it from its copies.
"""

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pangu_cv.errors import ImageError
from pangu_runtime.decode import DecodeSpec, decode

Progress = Callable[[int, int], None]
_MOST_ELONGATED = 16  # longer strips are reduced further, so that one image cannot fill the cache


@dataclass(frozen=True, slots=True)
class _Entry:
    offset: int | None
    """None: there was no room for the pixels."""
    height: int
    width: int
    digest: str

    @property
    def nbytes(self) -> int:
        return self.height * self.width * 3

    def as_line(self, key: str) -> str:
        """Of the index."""
        return json.dumps([key, self.offset, self.height, self.width, self.digest])


class PixelCache:
    """Reduced images by path; ``folder`` may be shared by runs, one of which fills it at a time."""

    def __init__(self, folder: Path, *, short_px: int, spec: DecodeSpec, max_gb: float) -> None:
        self.short_px, self.spec, self.max_bytes = short_px, spec, int(max_gb * 1e9)
        settings = json.dumps([short_px, spec.to_json()], sort_keys=True)
        self.folder = folder / hashlib.sha256(settings.encode()).hexdigest()[:16]
        self._entries: dict[bytes, _Entry] = {}
        self._pixels: NDArray[np.uint8] | None = None

    def fill(self, paths: Sequence[Path], *, workers: int = 2, progress: Progress | None = None) -> list[ImageError]:
        """Decode what was not seen yet and keep it up to the size limit; returns what could not be read."""
        self.folder.mkdir(parents=True, exist_ok=True)
        failed: list[ImageError] = []
        with self._locked():
            size = self._load()
            missing = self._missing(paths, size)
            done = len(paths) - len(missing)
            with self._pixel_file.open("ab") as pixels, self._index_file.open("a", encoding="utf-8") as index:
                for (_, key), image in zip(missing, self._decoded(missing, workers), strict=True):
                    done += 1
                    if isinstance(image, ImageError):
                        failed.append(image)
                    else:
                        has_room = size + image.nbytes <= self.max_bytes
                        if has_room:
                            pixels.write(image.tobytes())
                            pixels.flush()
                        entry = _Entry(size if has_room else None, image.shape[0], image.shape[1], _digest(image))
                        index.write(f"{entry.as_line(key)}\n")
                        self._entries[_short(key)] = entry
                        size += image.nbytes if has_room else 0
                    if progress:
                        progress(done, len(paths))
        self._pixels = np.memmap(self._pixel_file, np.uint8, "r") if size else None
        return failed

    def read(self, path: Path) -> NDArray[np.uint8]:
        """The reduced image uint8[H,W,3]: from the cache, or decoded anew where it is not there."""
        entry = self._entries.get(_short(_key(path)))
        if entry is None or entry.offset is None or self._pixels is None:
            return self._reduced(path)
        flat = self._pixels[entry.offset : entry.offset + entry.nbytes]
        return flat.reshape(entry.height, entry.width, 3)

    def digest(self, path: Path) -> str:
        """Digest of the reduced pixels: equal for copies of one picture."""
        entry = self._entries.get(_short(_key(path)))
        return entry.digest if entry is not None else _digest(self._reduced(path))

    @property
    def _pixel_file(self) -> Path:
        return self.folder / "pixels.bin"

    @property
    def _index_file(self) -> Path:
        return self.folder / "index.jsonl"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _load(self) -> int:
        """Read the index, cut off what a killed run left half-written, and return the end of the pixels."""
        self._entries.clear()
        end = whole = 0
        with self._pixel_file.open("ab") as pixels, self._index_file.open("ab+") as index:
            available = pixels.tell()
            index.seek(0)
            for line in index:
                try:
                    key, offset, height, width, digest = json.loads(line)
                    entry = _Entry(None if offset is None else int(offset), int(height), int(width), str(digest))
                except (ValueError, TypeError):
                    break
                room = 0 if entry.offset is None else entry.nbytes
                if entry.offset not in (None, end) or end + room > available or not line.endswith(b"\n"):
                    break
                self._entries[_short(str(key))] = entry
                whole += len(line)
                end += room
            index.truncate(whole)
            pixels.truncate(end)
        return end

    def _missing(self, paths: Sequence[Path], size: int) -> list[tuple[Path, str]]:
        """What to decode, with its key: images not seen before, and those that had no room and have some."""
        missing: list[tuple[Path, str]] = []
        for path in paths:
            key = _key(path)
            entry = self._entries.get(_short(key))
            if entry is None:
                missing.append((path, key))
            elif entry.offset is None and size + entry.nbytes <= self.max_bytes:
                missing.append((path, key))
                size += entry.nbytes
        return missing

    def _decoded(self, missing: Sequence[tuple[Path, str]], workers: int) -> Iterator[NDArray[np.uint8] | ImageError]:
        def guarded(path: Path) -> NDArray[np.uint8] | ImageError:
            try:
                return self._reduced(path)
            except ImageError as error:
                return error

        with ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(missing), 64):
                yield from pool.map(guarded, [path for path, _ in missing[start : start + 64]])

    def _reduced(self, path: Path) -> NDArray[np.uint8]:
        image = decode(path, spec=self.spec)
        height, width = image.shape[:2]
        short, long = min(height, width), max(height, width)
        factor = min(1.0, self.short_px / short, self.short_px * _MOST_ELONGATED / long)
        if factor == 1.0:
            return image
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0))


def _digest(image_HW3: NDArray[np.uint8]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(image_HW3).tobytes(), digest_size=16).hexdigest()


def _key(path: Path) -> str:
    """Path, size and time of change: a changed file is another image."""
    try:
        stat = path.stat()
    except OSError:
        return str(path)
    return f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"


def _short(key: str) -> bytes:
    """What stands for a key in memory: with millions of images the paths would take more room than all else."""
    return hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).digest()
