"""Images decoded once and reduced to a working size, in one memory-mapped file that all worker processes share.

A folder holds ``pixels.bin``, to which images are appended, and ``index.jsonl``, a line for each, written after its
pixels: whatever a killed run leaves is valid up to the last whole line.
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
    offset: int
    height: int
    width: int
    digest: str


class PixelCache:
    """Reduced images by path; ``folder`` may be shared by runs, one of which fills it at a time."""

    def __init__(self, folder: Path, *, short_px: int, spec: DecodeSpec, max_gb: float) -> None:
        self.short_px, self.spec, self.max_bytes = short_px, spec, int(max_gb * 1e9)
        settings = json.dumps([short_px, spec.to_json()], sort_keys=True)
        self.folder = folder / hashlib.sha256(settings.encode()).hexdigest()[:16]
        self._entries: dict[str, _Entry] = {}
        self._pixels: NDArray[np.uint8] | None = None

    def fill(self, paths: Sequence[Path], *, workers: int = 2, progress: Progress | None = None) -> list[ImageError]:
        """Decode and keep what is not there yet, up to the size limit; returns what could not be read."""
        self.folder.mkdir(parents=True, exist_ok=True)
        failed: list[ImageError] = []
        with self._locked():
            size = self._load()
            missing = [(path, key) for path in paths if (key := _key(path)) not in self._entries]
            done = len(paths) - len(missing)
            with self._pixel_file.open("ab") as pixels, self._index_file.open("a", encoding="utf-8") as index:
                for (_, key), image in zip(missing, self._decoded(missing, workers), strict=True):
                    done += 1
                    if isinstance(image, ImageError):
                        failed.append(image)
                    elif size + image.nbytes <= self.max_bytes:
                        pixels.write(image.tobytes())
                        pixels.flush()
                        entry = _Entry(size, image.shape[0], image.shape[1], _digest(image))
                        index.write(json.dumps([key, entry.offset, entry.height, entry.width, entry.digest]) + "\n")
                        self._entries[key] = entry
                        size += image.nbytes
                    if progress:
                        progress(done, len(paths))
        self._pixels = np.memmap(self._pixel_file, np.uint8, "r") if size else None
        return failed

    def read(self, path: Path) -> NDArray[np.uint8]:
        """The reduced image uint8[H,W,3]: from the cache, or decoded anew where it is not there."""
        entry = self._entries.get(_key(path))
        if entry is None or self._pixels is None:
            return self._reduced(path)
        flat = self._pixels[entry.offset : entry.offset + entry.height * entry.width * 3]
        return flat.reshape(entry.height, entry.width, 3)

    def digest(self, path: Path) -> str:
        """Digest of the reduced pixels: equal for copies of one picture."""
        entry = self._entries.get(_key(path))
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
        end = 0
        self._entries.clear()
        lines = self._index_file.read_text(encoding="utf-8").split("\n") if self._index_file.is_file() else []
        whole: list[str] = []
        available = self._pixel_file.stat().st_size if self._pixel_file.is_file() else 0
        for line in lines[:-1]:
            try:
                key, offset, height, width, digest = json.loads(line)
                entry = _Entry(int(offset), int(height), int(width), str(digest))
            except (ValueError, TypeError):
                break
            if entry.offset != end or end + entry.height * entry.width * 3 > available:
                break
            self._entries[str(key)] = entry
            whole.append(line)
            end += entry.height * entry.width * 3
        self._index_file.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
        with self._pixel_file.open("ab") as pixels:
            pixels.truncate(end)
        return end

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
