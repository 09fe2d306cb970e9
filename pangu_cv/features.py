"""Feature extraction with a cache on disk, keyed by image content, view and weights; a killed run goes on where it was.

A store is a folder of shards, each an ``.npz`` of plain arrays: keys (SHA-256 of an image file, and the view) and one
vector per key. Shards are written whole or not at all, so that any state on disk is a valid one.
"""

import hashlib
import json
import os
import uuid
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pangu_cv.errors import ImageError
from pangu_cv.freed_memory import keep_freed_blocks
from pangu_cv.image_size import pixels_of
from pangu_runtime.decode import DecodeSpec, decode

Progress = Callable[[int, int], None]
BATCH = 4  # larger batches touch fresh pages for every activation: twice the time per image on a CPU
SHARD_IMAGES = 128
_PIXELS_A_WORKER = 24_000_000  # common cameras' images are read side by side, larger ones one at a time


class Embedder(Protocol):
    """What a task offers so that its features can be cached."""

    @property
    def fingerprint(self) -> str:
        """Digest of everything but image and view that the vectors depend on."""
        ...

    def prepare(self, image_1HW3: Tensor) -> Tensor:
        """Raw uint8 pixels of one image to the network's input, float32[1,3,S,S]."""
        ...

    def embed(self, prepared_B3SS: Tensor, view: str) -> Tensor:
        """One vector per image of the batch, float32[B,D]."""
        ...


@dataclass(frozen=True)
class Skipped:
    """An image that was left out, and why."""

    path: Path
    reason: str
    message: str


@dataclass(frozen=True)
class Extraction:
    """``features_NVD`` float32 of the images that could be read: ``index[path]`` is the row; the others are named."""

    features_NVD: NDArray[np.float32]
    index: dict[Path, int]
    skipped: tuple[Skipped, ...]
    embedded: int


def digest(*parts: Any) -> str:
    """Short stable digest of JSON-able parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """Where stores live unless a recipe says otherwise: ``PANGU_CV_CACHE``, or the user's cache folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("PANGU_CV_CACHE", home / "pangu_cv" / "features"))


class FeatureStore:
    """A folder of shards of one fingerprint; ``folder=None`` keeps vectors in memory only.

    Opening it reads keys alone; a shard's vectors are read when one of its keys is asked for, from any thread.
    """

    def __init__(self, folder: Path | None, fingerprint: str) -> None:
        self.folder = folder / fingerprint if folder else None
        self._vectors: dict[str, NDArray[np.float32]] = {}
        self._unsaved: list[str] = []
        self._shard_of: dict[str, Path] = {}
        self._read: set[Path] = set()
        self._reading = Lock()
        for shard in sorted(self.folder.glob("*.npz")) if self.folder else []:
            self._shard_of |= {str(key): shard for (key,) in _rows(shard, "keys")}

    def _fetch(self, key: str) -> None:
        if key in self._vectors:
            return
        with self._reading:
            shard = self._shard_of.get(key)
            if shard is None or shard in self._read:
                return
            self._read.add(shard)
            for name, vector in _rows(shard, "keys", "vectors"):
                self._vectors.setdefault(str(name), vector)

    def __contains__(self, key: str) -> bool:
        self._fetch(key)
        return key in self._vectors

    def __getitem__(self, key: str) -> NDArray[np.float32]:
        self._fetch(key)
        return self._vectors[key]

    def put(self, key: str, vector: NDArray[np.float32]) -> None:
        """Add one vector; every ``SHARD_IMAGES`` of them a shard is written."""
        self._vectors[key] = vector
        self._unsaved.append(key)
        if len(self._unsaved) >= SHARD_IMAGES:
            self.flush()

    def flush(self) -> None:
        """Write what is not on disk yet."""
        if self.folder and self._unsaved:
            self.folder.mkdir(parents=True, exist_ok=True)
            name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
            temporary = self.folder / f".{name}.tmp"
            with temporary.open("wb") as stream:
                np.savez(stream, keys=np.array(self._unsaved), vectors=np.stack([self[k] for k in self._unsaved]))
            temporary.replace(self.folder / f"{name}.npz")
        self._unsaved.clear()


def _rows(shard: Path, *names: str) -> list[tuple[Any, ...]]:
    """The shard's arrays row by row, none where it cannot be read; a damaged one is deleted, a smaller cache."""
    try:
        with shard.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return list(zip(*(arrays[name] for name in names), strict=True))
    except OSError:  # such as too many open files, which says nothing of the shard
        return []
    except (ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        shard.unlink(missing_ok=True)
        return []


def read_ahead(paths: Sequence[Path], read: Callable[[Path], Any], *, workers: int | None = None) -> Iterator[Any]:
    """``read(path)`` of every path in order, a few images ahead; an ``ImageError`` is given, not raised.

    What lies ready beside the image in use is at most 24 megapixels a worker, or one image.
    """
    workers = workers or min(8, os.cpu_count() or 1)
    ahead = 2 * workers + 1

    def guarded(path: Path) -> Any:
        try:
            return read(path)
        except ImageError as error:
            return error

    left = iter(paths)
    sized: deque[tuple[Path, Future[int]]] = deque()  # headers are looked at first: no thread ever waits for room
    reading: deque[tuple[int, Future[Any]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        while True:
            sized.extend((path, pool.submit(pixels_of, path)) for path in islice(left, ahead - len(sized)))
            room = workers * _PIXELS_A_WORKER - sum(pixels for pixels, _ in reading)
            while sized and (not reading or (len(reading) < ahead and _fits(sized[0][1], room))):
                path, size = sized.popleft()
                reading.append((size.result(), pool.submit(guarded, path)))
                room -= size.result()
            if not reading:
                return
            yield reading.popleft()[1].result()  # nothing here may keep it alive
    finally:
        pool.shutdown(cancel_futures=True)


def _fits(size: "Future[int]", room: int) -> bool:
    return size.done() and size.result() <= room


def extract(
    paths: Sequence[Path],
    embedder: Embedder,
    *,
    views: Sequence[str],
    store: FeatureStore,
    decode_spec: DecodeSpec,
    progress: Progress | None = None,
) -> Extraction:
    """Vectors of every image in every view; what the store holds is not computed again, the unreadable is named."""
    keep_freed_blocks()
    spec_key = digest(decode_spec.to_json())
    pending: list[tuple[str, str, Tensor]] = []
    keys: dict[Path, list[str]] = {}
    skipped: list[Skipped] = []
    embedded = 0

    def run_batch() -> None:
        for view in views:
            chosen = [(key, tensor) for key, of_view, tensor in pending if of_view == view]
            if chosen:
                vectors = embedder.embed(torch.cat([tensor for _, tensor in chosen]), view).numpy()
                for (key, _), vector in zip(chosen, vectors, strict=True):
                    store.put(key, vector.copy())
        pending.clear()

    def read(path: Path) -> tuple[list[str], Tensor | None]:
        image_key = f"{content_digest(path)}:{spec_key}"
        view_keys = [f"{image_key}:{view}" for view in views]
        if all(key in store for key in view_keys):
            return view_keys, None
        return view_keys, torch.from_numpy(decode(path, spec=decode_spec))[None]

    def take(path: Path, result: tuple[list[str], Tensor | None] | ImageError) -> None:
        nonlocal embedded
        if isinstance(result, ImageError):
            skipped.append(Skipped(path, result.reason, str(result)))
            return
        keys[path], image = result
        if image is None:
            return
        prepared = embedder.prepare(image)
        known = {key for key, _, _ in pending}
        fresh = [
            (key, view, prepared)
            for key, view in zip(keys[path], views, strict=True)
            if key not in store and key not in known
        ]
        pending.extend(fresh)
        embedded += len(fresh)

    images = read_ahead(paths, read)
    try:
        with torch.inference_mode():
            for done, path in enumerate(paths, start=1):
                take(path, next(images))  # a name here would keep the pixels while the next ones are decoded
                if len(pending) >= BATCH or done == len(paths):
                    run_batch()
                if progress:
                    progress(done, len(paths))
    finally:
        store.flush()
    features = _gathered(store, list(keys.values()), views=len(views))
    return Extraction(features, {path: row for row, path in enumerate(keys)}, tuple(skipped), embedded)


def _gathered(store: FeatureStore, keys_NV: Sequence[Sequence[str]], *, views: int) -> NDArray[np.float32]:
    """float32[N,V,D], each vector copied once: a list of them beside would double what thousands of images take."""
    width = len(store[keys_NV[0][0]]) if keys_NV else 0
    features_NVD = np.empty((len(keys_NV), views, width), np.float32)
    for row, keys in enumerate(keys_NV):
        for view, key in enumerate(keys):
            features_NVD[row, view] = store[key]
    return features_NVD


def content_digest(path: Path) -> str:
    """SHA-256 of a file's bytes; raises ImageError where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(path, "missing", f"cannot be read ({error.strerror})") from None
