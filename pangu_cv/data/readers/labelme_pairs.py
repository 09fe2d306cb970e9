"""Which image a file of shapes is of: never one outside the dataset, whatever the file says."""

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TypeVar

from pangu_cv.data.readers.folders import IMAGE_PARTS, LABEL_PARTS

_Key = TypeVar("_Key", bound=Hashable)


def pairs(
    root: Path, files: Iterable[Path], images: Sequence[Path], *, named: Callable[[Path], str]
) -> Iterator[tuple[Path, Path | None, bool]]:
    """Every file with its image, None where it has none, and whether its own name spoke for another or none.

    The image lies beside the file with its stem, or so in a folder of images where the file is in one of labels, since
    pairs are renamed together. Else it lies where the file says (``named``, its ``imagePath``), or beside it by that
    name. Folders are renamed too: a file that lies in none, or in one of labels, may be of the only image of its name,
    of those that are left over when all others have theirs.
    """
    place = _Places(root, images, named)
    left: list[Path] = []
    taken: set[Path] = set()
    for file in files:
        image, told = place.of_stem(file), None
        if image is None:
            told = image = place.told(file)
        if image is None:
            left.append(file)
        else:
            taken.add(image)
            yield file, image, told is not None and told.stem != file.stem
    over = _grouped((image.name, image) for image in images if image not in taken) if left else {}
    for file in left:
        yield file, place.left_over(file, over), True


class _Places:
    """Where images lie, and which of them a file of shapes may be of."""

    def __init__(self, root: Path, images: Sequence[Path], named: Callable[[Path], str]) -> None:
        self._root, self._named = root, cache(named)
        self._by_path = {_at(image): image for image in images}
        self._by_stem = _grouped((image.with_suffix(""), image) for image in images)
        self._by_plain = _grouped((_without(image.relative_to(root), IMAGE_PARTS), image) for image in images)
        self._folders = {image.parent for image in images}

    def of_stem(self, file: Path) -> Path | None:
        """Beside the file or apart; of several the one that the file names."""
        if beside := self._by_stem.get(file.with_suffix(""), []):
            return beside[0] if len(beside) == 1 else self._one_of(beside, file) or beside[0]
        apart = self._by_plain.get(self._plain(file), [])
        if apart and (told := self.told(file)) is not None and told.stem == file.stem:
            return told
        return apart[0] if len(apart) == 1 else self._one_of(apart, file)

    def told(self, file: Path) -> Path | None:
        """Where the file says, or beside it by that name."""
        name = _clean(self._named(file))
        found = (self._by_path.get(_at(file.parent / told)) for told in (name, _name(name)))
        return next(filter(None, found), None)

    def left_over(self, file: Path, over: Mapping[str, Sequence[Path]]) -> Path | None:
        """The only one of its name, of those by name that no other file is of."""
        alike = over.get(_name(self._named(file)), ())
        is_apart = file.parent in self._folders or len(self._plain(file)) > 1
        return alike[0] if len(alike) == 1 and not is_apart else None

    def _plain(self, file: Path) -> tuple[str, ...]:
        return _without(file.relative_to(self._root), LABEL_PARTS)

    def _one_of(self, alike: Sequence[Path], file: Path) -> Path | None:
        fit = [image for image in alike if image.name == _name(self._named(file))]
        return fit[0] if len(fit) == 1 else None


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
