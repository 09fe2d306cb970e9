"""Which image a file of shapes is of: never one outside the dataset, whatever the file says."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

LABEL_PARTS = frozenset(("labels", "label", "annotations", "annotation", "ann", "json", "jsons"))
_IMAGE_PARTS = frozenset(("images", "image", "imgs", "img", "jpegimages", "pictures"))


def pairs(
    root: Path, files: Sequence[Path], images: Sequence[Path], *, named: Callable[[Path], str]
) -> Iterator[tuple[Path, Path | None]]:
    """Every file with its image, None where it has none; ``named`` is what a file says about that (``imagePath``).

    Its image lies beside it with its stem, since pairs are renamed together; or where the file says; or in a folder of
    images where the file is in one of labels. Folders are renamed too: a file in a folder without images may be of the
    only image of its name, of those that are left over when all others have theirs.
    """
    place = _Places(root, images)
    left: list[Path] = []
    taken: set[Path] = set()
    for file in files:
        image = place.beside(file, named) or place.apart(file)
        if image is None:
            left.append(file)
        else:
            taken.add(image)
            yield file, image
    for file in left:
        yield file, place.elsewhere(file, named(file), taken)


class _Places:
    def __init__(self, root: Path, images: Sequence[Path]) -> None:
        self._root = root
        self._by_path = {os.path.normpath(image): image for image in images}
        self._by_stem: dict[Path, list[Path]] = defaultdict(list)
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_plain: dict[tuple[str, ...], list[Path]] = defaultdict(list)
        for image in images:
            self._by_stem[image.with_suffix("")].append(image)
            self._by_name[image.name].append(image)
            self._by_plain[_without(image.relative_to(root), _IMAGE_PARTS)].append(image)
        self._folders = {image.parent for image in images}

    def beside(self, file: Path, named: Callable[[Path], str]) -> Path | None:
        beside = self._by_stem.get(file.with_suffix(""), [])
        if len(beside) == 1:
            return beside[0]
        told = self._by_path.get(os.path.normpath(file.parent / _clean(named(file))))
        return told if told in beside or not beside else beside[0]

    def apart(self, file: Path) -> Path | None:
        alike = self._by_plain.get(_without(file.relative_to(self._root), LABEL_PARTS), [])
        return alike[0] if len(alike) == 1 else None

    def elsewhere(self, file: Path, named: str, taken: set[Path]) -> Path | None:
        if file.parent in self._folders:
            return None
        alike = [image for image in self._by_name.get(PurePosixPath(_clean(named)).name, []) if image not in taken]
        return alike[0] if len(alike) == 1 else None


def _clean(named: str) -> str:
    """As paths are written here; Windows writes others."""
    return named.replace("\\", "/").replace("\0", "")


def _without(relative: Path, parts: frozenset[str]) -> tuple[str, ...]:
    """The path without its suffix and without the first folder that is named so."""
    folders = list(relative.parent.parts)
    at = next((at for at, part in enumerate(folders) if part.lower() in parts), None)
    if at is not None:
        del folders[at]
    return (*folders, relative.stem)
