"""Images nobody has looked at, embedded: any number of them, one pass each, resumable, in bounded memory.

Shapes: N images, K numbers of the space they are compared in, D of what is stored.
"""

import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pangu_cv.errors import DataError, ImageError
from pangu_cv.features import Progress, Skipped, cache_folder, content_digest, digest, read_ahead
from pangu_cv.freed_memory import keep_freed_blocks
from pangu_cv.iterate.pool.sight import Seen, Sight
from pangu_cv.iterate.pool.space import Space
from pangu_cv.iterate.pool.unusual import References
from pangu_cv.iterate.pool.vector_store import StoredImage, VectorStore
from pangu_runtime.decode import DecodeSpec, decode

REFERENCES = 512  # images whose patches say what is usual
BATCH = 4  # larger ones are no faster on a CPU
_FLUSH = 16  # batches between writes
_BLOCK = 4096


@dataclass(frozen=True)
class Pool:
    """N images with their digests, oddity, vectors in a common space (a map of a file), and what was left out."""

    images: tuple[Path, ...]
    digests: tuple[str, ...]
    odd_N: NDArray[np.float32]
    features_NK: NDArray[np.float32]
    vectors: NDArray[np.float16]
    rows_N: NDArray[np.int64]
    space: Space
    skipped: tuple[Skipped, ...]
    embedded: int

    def __len__(self) -> int:
        return len(self.images)

    def raw(self, places: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """What the network said of some images, without the looks of their oddest patches: float32[n,D]."""
        width = sum(self.space.groups[:-1])
        return np.asarray(self.vectors[self.rows_N[places], :width], np.float32)


def embed_pool(
    images: Sequence[Path],
    sight: Sight,
    *,
    folder: Path,
    decode_spec: DecodeSpec | None = None,
    progress: Progress | None = None,
) -> Pool:
    """Embed what ``folder`` does not hold yet in its present state; raises DataError where nothing can be read."""
    keep_freed_blocks()
    spec = decode_spec or sight.decode_spec
    home = home_of(folder, sight, spec)
    width = sum(sight.groups) + sight.patch_features
    skipped: list[Skipped] = []
    with VectorStore(home, width=width) as store:
        before = store.written
        references = _references(images, sight, spec, store)
        todo = [path for path in images if not _is_held(store, path)]
        for path, result in _embedded(
            todo, sight, spec, references, store, done=len(images) - len(todo), progress=progress
        ):
            skipped.append(Skipped(path, result.reason, str(result)))
        places = {image.path: place for place, image in enumerate(store.images)}
        failed = {one.path for one in skipped}
        kept = [path for path in images if str(path) in places and path not in failed]
        if not kept:
            raise DataError("none of the images can be read")
        chosen = [places[str(path)] for path in kept]
        stored, rows = store.images, store.rows[chosen]
        vectors = store.vectors()
        space = Space.fit(vectors, rows, (*sight.groups, sight.patch_features))
        features = _projected(space, vectors, rows, home / "features.npy")
        embedded = store.written - before
    digests = tuple(stored[place].sha256 for place in chosen)
    odd = np.array([stored[place].odd for place in chosen], np.float32)
    return Pool(tuple(kept), digests, odd, features, vectors, rows, space, tuple(skipped), embedded)


def home_of(folder: Path, sight: Sight, spec: DecodeSpec) -> Path:
    """Where in ``folder`` the vectors of one network, resize and decoder lie."""
    return folder / digest(sight.fingerprint, spec.to_json())


def kept_home(images: Path) -> Path:
    """Where vectors are kept of a folder or table that names no place: each has its own, since what is odd among some
    images may be usual among others."""
    return cache_folder() / "pools" / digest(str(images.resolve()))


def _is_held(store: VectorStore, path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return store.holds(str(path), status.st_size, status.st_mtime_ns)


def reference_order(images: Sequence[Path]) -> list[Path]:
    """The order in which images are drawn as references: the same on every machine, whatever the folder."""
    return sorted(images, key=lambda path: hashlib.sha256(path.name.encode()).digest())


def _references(images: Sequence[Path], sight: Sight, spec: DecodeSpec, store: VectorStore) -> References:
    """Those on disk, so that scores of later images compare; else of images drawn by a digest of their names.

    What is drawn is stored in the same pass of the network.
    """
    file = store.folder / "references.npz"
    if file.is_file() or store.written:
        return _read_references(file)
    drawn = list(_drawn(images, sight, spec))
    if not drawn:
        raise DataError("none of the images can be read")
    names = [image.path for batch, _ in drawn for image in batch]
    patches = torch.cat([seen.patches_BPF for _, seen in drawn]).half()
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as writing:
        np.savez(writing, patches=patches.numpy(), names=np.array(names))
        writing.flush()
        os.fsync(writing.fileno())
    temporary.replace(file)
    references = References(patches.float(), names)
    for start in range(0, len(drawn), _FLUSH):
        _store(store, drawn[start : start + _FLUSH], references)
    return references


def _read_references(file: Path) -> References:
    """Raises DataError where they are lost: others would score otherwise than what is stored was scored."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return References(torch.from_numpy(arrays["patches"]).float(), [str(name) for name in arrays["names"]])
    except (OSError, EOFError, KeyError, TypeError, ValueError, BadZipFile) as error:
        raise DataError(
            f"{file}: is not as it was written ({type(error).__name__}: {error}); remove the folder '{file.parent}', "
            "and all images are embedded anew"
        ) from None


def _drawn(images: Sequence[Path], sight: Sight, spec: DecodeSpec) -> Iterator[tuple[list[StoredImage], Seen]]:
    """Batches of the first ``REFERENCES`` images that can be read, in the order in which they are drawn."""
    order = reference_order(images)[: 2 * REFERENCES]
    readable = (one for one in read_ahead(order, partial(_read, spec=spec)) if not isinstance(one, ImageError))
    first = itertools.islice(readable, REFERENCES)
    while batch := list(itertools.islice(first, BATCH)):
        yield [image for image, _ in batch], sight(torch.cat([sight.prepare(pixels) for _, pixels in batch]))


def _read(path: Path, *, spec: DecodeSpec) -> tuple[StoredImage, Tensor]:
    """The file as it is now, and its pixels; raises ImageError."""
    status, sha = path.stat() if path.exists() else None, content_digest(path)
    assert status is not None, "content_digest raises where there is no file"
    stored = StoredImage(str(path), status.st_size, status.st_mtime_ns, sha, 0.0)
    return stored, torch.from_numpy(decode(path, spec=spec))[None]


def _embedded(
    todo: Sequence[Path],
    sight: Sight,
    spec: DecodeSpec,
    references: References,
    store: VectorStore,
    *,
    done: int,
    progress: Progress | None,
) -> Iterator[tuple[Path, ImageError]]:
    """Embed into the store; gives what cannot be read."""
    batch: list[tuple[StoredImage, Tensor]] = []
    unsaved: list[tuple[list[StoredImage], Seen]] = []
    pixels = read_ahead(todo, partial(_read, spec=spec))
    for number, (path, result) in enumerate(zip(todo, pixels, strict=True), start=1):
        if isinstance(result, ImageError):
            yield path, result
        else:
            batch.append((result[0], sight.prepare(result[1])))
        is_last = number == len(todo)
        if batch and (len(batch) == BATCH or is_last):
            unsaved.append(([image for image, _ in batch], sight(torch.cat([prepared for _, prepared in batch]))))
            batch = []
        if unsaved and (len(unsaved) == _FLUSH or is_last):
            _store(store, unsaved, references)
            unsaved = []
        if progress:
            progress(done + number, done + len(todo))


def _store(store: VectorStore, batches: Sequence[tuple[list[StoredImage], Seen]], references: References) -> None:
    """Many images at once: their oddity comes out of a few large products."""
    images = [image for batch, _ in batches for image in batch]
    patches_BPF = torch.cat([seen.patches_BPF for _, seen in batches])
    oddity = references(patches_BPF, [image.path for image in images])
    vectors_BD = torch.cat([torch.cat([seen.vectors_BD for _, seen in batches]), oddity.looks_BF], 1)
    scored = [replace(image, odd=score) for image, score in zip(images, oddity.scores_B.tolist(), strict=True)]
    store.append(scored, vectors_BD.numpy())


def _projected(space: Space, vectors: NDArray[np.float16], rows: NDArray[np.int64], file: Path) -> NDArray[np.float32]:
    """All rows in the space, in a file of their own that is mapped."""
    width = space.axes_DK.shape[1]
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    mapped = np.lib.format.open_memmap(temporary, "w+", np.float32, (len(rows), width))
    for start in range(0, len(rows), _BLOCK):
        mapped[start : start + _BLOCK] = space.project(vectors[rows[start : start + _BLOCK]])
    mapped.flush()
    temporary.replace(file)
    read: NDArray[np.float32] = np.load(file, mmap_mode="r")
    return read
