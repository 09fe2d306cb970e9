"""What the folder layouts share: listing class folders, naming splits, telling what a folder holds."""

from collections import Counter
from pathlib import Path

from pangu_cv.data.sample import Split
from pangu_runtime.images import is_image_name, natural_key, walk_files

SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
SPLIT_WORDS: dict[str, Split] = {**SPLIT_FOLDERS, "trainval": "train", "minival": "val"}
SPLITS: tuple[Split, ...] = ("train", "val", "test")
IMAGE_PARTS = frozenset(("images", "image", "imgs", "img", "jpegimages", "pictures"))
"""Folders of the images alone, lower case; what is known of them lies in one of ``LABEL_PARTS``."""
LABEL_PARTS = frozenset(("labels", "label", "annotations", "annotation", "ann", "json", "jsons"))
_NOT_OURS = ("__MACOSX", "__pycache__")


def subfolders(path: Path) -> tuple[Path, ...]:
    """The visible folders directly below ``path`` in natural order, empty if ``path`` is none."""
    if not path.is_dir():
        return ()
    found = (p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name not in _NOT_OURS)
    return tuple(sorted(found, key=lambda p: natural_key(p.name)))


def files_below(path: Path, suffix: str) -> tuple[Path, ...]:
    """The visible files of this suffix, in any case, in the folders that ``find_images`` visits, by name."""
    names = (name for name in walk_files(path) if name.lower().endswith(suffix))
    return tuple(sorted(path / name for name in names if Path(name).name[0] != "." and (path / name).is_file()))


def loose_images(path: Path) -> int:
    """The number of images directly in ``path``."""
    return sum(is_image_name(p.name) for p in path.iterdir()) if path.is_dir() else 0


def split_folders(path: Path) -> dict[Path, Split]:
    """The folders below ``path`` that are named like splits, in the order train, val, test."""
    found = {p: SPLIT_FOLDERS[p.name.lower()] for p in subfolders(path) if p.name.lower() in SPLIT_FOLDERS}
    return dict(sorted(found.items(), key=lambda item: ("train", "val", "test").index(item[1])))


def describe(path: Path) -> str:
    """What a folder holds, in a few words for an error."""
    folders = [p.name for p in subfolders(path)]
    files = Counter(p.suffix.lower() or "no suffix" for p in path.iterdir() if p.is_file())
    parts = [f"{count} x {suffix}" for suffix, count in files.most_common(4)]
    if folders:
        more = f" and {len(folders) - 6} more" if len(folders) > 6 else ""
        parts.insert(0, f"folders {', '.join(folders[:6])}{more}")
    return "; ".join(parts) or "nothing"
