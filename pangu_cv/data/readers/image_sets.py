"""Pascal VOC's lists of images, ``ImageSets/Main/<split>.txt``, and those for masks in ``ImageSets/Segmentation``."""

import re
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path

from pangu_cv.data.readers.annotation import Notes, read_utf8
from pangu_cv.data.readers.folders import SPLIT_WORDS, SPLITS
from pangu_cv.data.sample import Split
from pangu_runtime.images import is_image_name

MAIN, MASKS = "Main", "Segmentation"


def listed(path: Path, kind: str, stems: Mapping[Path, str], notes: Notes) -> dict[Path, Split]:
    """The split of every image that a list names, of ``stems`` by image. Raises DataError for another encoding.

    Of several lists the last in the order train, val, test counts, so that trainval yields to val.
    """
    folder, known = path / "ImageSets" / kind, set(stems.values())
    lists = {file: SPLIT_WORDS.get(file.stem.lower()) for file in sorted(folder.glob("*.txt")) if file.name[0] != "."}
    for file in (file for file, split in lists.items() if split is None):
        notes.add(f"lists of ImageSets/{kind} are named for no split and were not read", file.name)
    named = ((file, split) for split in SPLITS for file, own in lists.items() if own == split)
    splits = {stem: split for file, split in named for stem in _names(file, known)}
    for image in (image for image, stem in stems.items() if splits and stem not in splits):
        notes.add(f"images are in no list of ImageSets/{kind}", image.name)
    for stem in sorted(splits.keys() - known):
        notes.add(f"images listed in ImageSets/{kind} do not exist", stem)
    return {image: splits[stem] for image, stem in stems.items() if stem in splits}


def has_lists(path: Path, kind: str) -> bool:
    """Whether one of the lists is named for a split."""
    return any(file.stem.lower() in SPLIT_WORDS for file in (path / "ImageSets" / kind).glob("*.txt"))


def stems_of(images: Iterable[Path], folder: Path) -> dict[Path, str]:
    """What a list calls each image: its path below the folder, without a suffix."""
    return {image: image.relative_to(folder).with_suffix("").as_posix() for image in images}


def _names(file: Path, known: Set[str]) -> Iterator[str]:
    for line in read_utf8(file).splitlines():
        name = line.strip()
        if name not in known:  # a class's list says in a second column whether the class is there
            name = re.sub(r"\s+-?[01]$", "", name)
        if name not in known and is_image_name(name):
            name = Path(name).with_suffix("").as_posix()
        if name:
            yield name
