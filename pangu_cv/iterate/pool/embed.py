"""Images nobody has looked at, embedded: any number of them, one pass each, resumable, in bounded memory.

Shapes: N images, K numbers of the space they are compared in, D of what is stored.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pangu_cv.errors import DataError, ImageError
from pangu_cv.features import Progress, Skipped, cache_folder, content_digest, digest, read_ahead
from pangu_cv.iterate.pool.sight import Seen, Sight
from pangu_cv.iterate.pool.space import Space
from pangu_cv.iterate.pool.unusual import References
from pangu_cv.iterate.pool.vector_store import StoredImage, VectorStore
from pangu_runtime.decode import DecodeSpec, decode

REFERENCES = 256  # images whose patches say what is usual
BATCH = 4  # larger ones are no faster on a CPU
_FLUSH = 64  # images between writes
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
    spec = decode_spec or sight.decode_spec or DecodeSpec()
    home = home_of(folder, sight, spec)
    width = sum(sight.groups) + sight.patch_features
    skipped: list[Skipped] = []
    with VectorStore(home, width=width) as store:
        before = store.written
        references = _references(images, sight, spec, home / "references.npz")
        todo = [path for path in images if not _is_held(store, path)]
        for path, result in _embedded(
            todo, sight, spec, references, store, done=len(images) - len(todo), progress=progress
        ):
            skipped.append(Skipped(path, result.reason, str(result)))
        places = {image.path: place for place, image in enumerate(store.images)}
        kept = [path for path in images if str(path) in places]
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


def _references(images: Sequence[Path], sight: Sight, spec: DecodeSpec, file: Path) -> References:
    """Those on disk, so that scores of later images compare; else of images drawn by a digest of their names."""
    if file.is_file():
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return References(torch.from_numpy(arrays["patches"]).float(), [str(name) for name in arrays["names"]])
    drawn = reference_order(images)[: 2 * REFERENCES]
    names: list[str] = []
    patches: list[Tensor] = []
    for path, image in zip(drawn, read_ahead(drawn, lambda path: decode(path, spec=spec)), strict=True):
        if not isinstance(image, ImageError) and len(names) < REFERENCES:
            names.append(str(path))
            patches.append(sight(sight.prepare(torch.from_numpy(image)[None])).patches_BPF[0].half())
        if len(names) == REFERENCES:
            break
    if not names:
        raise DataError("none of the images can be read")
    stacked = torch.stack(patches)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as writing:
        np.savez(writing, patches=stacked.numpy(), names=np.array(names))
    temporary.replace(file)
    return References(stacked.float(), names)


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

    def read(path: Path) -> tuple[StoredImage, Tensor]:
        status, sha = path.stat() if path.exists() else None, content_digest(path)
        assert status is not None, "content_digest raises where there is no file"
        stored = StoredImage(str(path), status.st_size, status.st_mtime_ns, sha, 0.0)
        return stored, torch.from_numpy(decode(path, spec=spec))[None]

    batch: list[tuple[StoredImage, Tensor]] = []
    unsaved: list[tuple[StoredImage, NDArray[np.float32]]] = []
    for number, (path, result) in enumerate(zip(todo, read_ahead(todo, read), strict=True), start=1):
        if isinstance(result, ImageError):
            yield path, result
        else:
            batch.append((result[0], sight.prepare(result[1])))
        is_last = number == len(todo)
        if batch and (len(batch) == BATCH or is_last):
            unsaved += _vectors(batch, sight, references)
            batch = []
        if unsaved and (len(unsaved) >= _FLUSH or is_last):
            store.append([image for image, _ in unsaved], np.stack([vector for _, vector in unsaved]))
            unsaved = []
        if progress:
            progress(done + number, done + len(todo))


def _vectors(
    batch: Sequence[tuple[StoredImage, Tensor]], sight: Sight, references: References
) -> list[tuple[StoredImage, NDArray[np.float32]]]:
    seen: Seen = sight(torch.cat([prepared for _, prepared in batch]))
    oddity = references(seen.patches_BPF, [image.path for image, _ in batch])
    both = torch.cat([seen.vectors_BD, oddity.looks_BF], 1).numpy()
    scored = [
        StoredImage(image.path, image.size, image.changed_ns, image.sha256, float(score))
        for (image, _), score in zip(batch, oddity.scores_B, strict=True)
    ]
    return list(zip(scored, both, strict=True))


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
