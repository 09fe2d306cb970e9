"""Which image a file of shapes is of: never one outside the dataset, whatever the file says."""

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_LABEL_PARTS = frozenset(("labels", "label", "annotations", "annotation", "ann", "json", "jsons"))
_IMAGE_PARTS = frozenset(("images", "image", "imgs", "img", "jpegimages", "pictures"))


def pairs(
    root: Path, files: Sequence[Path], images: Sequence[Path], *, named: Callable[[Path], str]
) -> Iterator[tuple[Path, Path | None, bool]]:
    """Every file with its image, None where it has none, and whether it was told by its name alone.

    The image lies beside the file with its stem, or so in a folder of images where the file is in one of labels, since
    pairs are renamed together. Else it lies where the file says (``named``, its ``imagePath``), or beside it by that
    name. Folders are renamed too: a file that lies in none, or in one of labels, may be of the only image of its name,
    of those that are left over when all others have theirs.
    """
    place = _Places(root, images)
    left: list[Path] = []
    taken: set[Path] = set()
    for file in files:
        image = place.of_stem(file, named) or place.told(file, named)
        if image is None:
            left.append(file)
        else:
            taken.add(image)
            yield file, image, False
    over = _grouped((image.name, image) for image in images if image not in taken) if left else {}
    for file in left:
        alike = over.get(_name(named(file)), [])
        is_apart = file.parent in place.folders or len(place.plain(file)) > 1
        yield file, alike[0] if len(alike) == 1 and not is_apart else None, True


class _Places:
    def __init__(self, root: Path, images: Sequence[Path]) -> None:
        self._root = root
        self._by_path = {_at(image): image for image in images}
        self._by_stem = _grouped((image.with_suffix(""), image) for image in images)
        self._by_plain = _grouped((_without(image.relative_to(root), _IMAGE_PARTS), image) for image in images)
        self.folders = {image.parent for image in images}

    def plain(self, file: Path) -> tuple[str, ...]:
        """Its folders but the one of labels, and its stem."""
        return _without(file.relative_to(self._root), _LABEL_PARTS)

    def of_stem(self, file: Path, named: Callable[[Path], str]) -> Path | None:
        if beside := self._by_stem.get(file.with_suffix(""), []):
            return beside[0] if len(beside) == 1 else self._one_of(beside, file, named) or beside[0]
        apart = self._by_plain.get(self.plain(file), [])
        return apart[0] if len(apart) == 1 else self._one_of(apart, file, named)

    def told(self, file: Path, named: Callable[[Path], str]) -> Path | None:
        name = _clean(named(file))
        found = (self._by_path.get(_at(file.parent / told)) for told in (name, _name(name)))
        return next(filter(None, found), None)

    def _one_of(self, alike: Sequence[Path], file: Path, named: Callable[[Path], str]) -> Path | None:
        name = _name(named(file)) if alike else ""
        return next((image for image in alike if image.name == name), None)


def _grouped(found: Iterable[tuple[_Key, Path]]) -> dict[_Key, list[Path]]:
    groups: dict[_Key, list[Path]] = defaultdict(list)
    for key, image in found:
        groups[key].append(image)
    return groups


def _at(path: Path) -> str:
    """Where it is, whatever folders it goes up again; links stay as they are."""
    return os.path.normpath(path.absolute())


def _clean(named: str) -> str:
    """As paths are written here; Windows writes others."""
    return named.replace("\\", "/").replace("\0", "")


def _name(named: str) -> str:
    return PurePosixPath(_clean(named)).name


def _without(relative: Path, parts: frozenset[str]) -> tuple[str, ...]:
    """The path without its suffix and without the first folder that is named so."""
    folders = list(relative.parent.parts)
    at = next((at for at, part in enumerate(folders) if part.lower() in parts), None)
    if at is not None:
        del folders[at]
    return (*folders, relative.stem)
