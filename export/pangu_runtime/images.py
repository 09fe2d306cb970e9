"""Finding the images in a folder, the same ones in the same order on every machine."""

import os
import re
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

from pangu_runtime.errors import DataError

# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".dib", ".tif", ".tiff", ".webp",
    ".pbm", ".pgm", ".ppm", ".pnm", ".gif",
))
# fmt: on


def is_image_name(name: str) -> bool:
    """Whether the name has an image's suffix, in any case, and is not hidden (``.x``, macOS ``._x``)."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122, 100 k names


def natural_key(name: str) -> tuple[tuple[tuple[bool, int, str], ...], str]:
    """Sorts ``img2`` before ``img10``, ``B`` with ``b``; equal only for equal names."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return tuple((at % 2 == 0, int(part) if at % 2 else 0, part) for at, part in enumerate(parts) if part), name


def find_images(folder: Path) -> tuple[Path, ...]:
    """Every image below ``folder`` in natural order of the relative paths; empty if there is none.

    Links to folders are followed, and each folder is visited once, so loops end. Files that only look like images are
    listed: decoding tells. Raises DataError if a folder may not be read.
    """
    found = [name for name in walk_files(folder) if is_image_name(name.rsplit("/", 1)[-1])]
    return tuple(folder / name for name in sorted(found, key=natural_key))


def list_images(path: Path) -> tuple[Path, ...]:
    """``path`` itself if it is a file, else ``find_images``.

    Raises DataError if ``path`` does not exist or holds no image, saying what it holds.
    """
    path = Path(path)
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise DataError(f"{path}: does not exist; an image or a folder of images is needed")
    found = find_images(path)
    if not found:
        names = Counter(Path(name).suffix.lower() or "no suffix" for name in walk_files(path))
        raise DataError(f"{path}: no image found, but {_summary(names)}; images are {' '.join(sorted(IMAGE_SUFFIXES))}")
    return found


def _summary(names: Counter[str]) -> str:
    return ", ".join(f"{count} x {suffix}" for suffix, count in names.most_common(5)) or "no file at all"


def walk_files(root: Path) -> Iterator[str]:
    """Relative posix paths of all files; real folders before linked ones, so that a link never hides the original."""
    seen: set[tuple[int, int]] = set()
    queue = deque([""])
    linked: deque[str] = deque()
    while queue or linked:
        folder = queue.popleft() if queue else linked.popleft()
        status = (root / folder).stat()
        if (identity := (status.st_dev, status.st_ino)) in seen:
            continue
        seen.add(identity)
        for entry in _entries(root / folder):
            relative = f"{folder}/{entry.name}" if folder else entry.name
            if not entry.is_dir():
                yield relative
            elif not entry.name.startswith("."):
                (linked if entry.is_symlink() else queue).append(relative)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); allow this user to read it") from error
