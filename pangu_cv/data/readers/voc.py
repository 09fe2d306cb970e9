"""Pascal VOC's layout: ``JPEGImages/``, ``Annotations/*.xml`` and ``ImageSets/Main/<split>.txt``."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from pangu_cv.data.readers.annotation import Notes, fitted_to, numbers
from pangu_cv.data.readers.folders import describe
from pangu_cv.data.sample import Box, Dataset, Sample, Split
from pangu_cv.errors import DataError
from pangu_runtime.images import find_images

_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def recognises(path: Path) -> bool:
    """Whether both folders are there."""
    return (path / "Annotations").is_dir() and (path / "JPEGImages").is_dir()


def read(path: Path) -> Dataset:
    """Samples with their boxes; an image without a file of annotations is unlabelled. Corners are taken as they stand.

    Headers of images with boxes are read: boxes drawn on another size are not believed, and those images unlabelled.
    Raises DataError on a malformed file, naming it.
    """
    notes = Notes()
    splits = dict(_splits(path))
    images = find_images(path / "JPEGImages") if (path / "JPEGImages").is_dir() else ()
    samples = []
    for image in images:
        stem = image.relative_to(path / "JPEGImages").with_suffix("").as_posix()
        file = path / "Annotations" / f"{stem}.xml"
        is_annotated = file.is_file()
        boxes = _boxes(file, image, notes) if is_annotated else None
        if not is_annotated:
            notes.add("images have no file of annotations and are taken as unlabelled", image.name)
        if splits and stem not in splits:
            notes.add("images are in no list of ImageSets/Main", image.name)
        samples.append(Sample(image, split=splits.get(stem), boxes=boxes))
    if not samples:
        raise DataError(f"{path}: no image in JPEGImages; found {describe(path)}")
    for stem in sorted(
        set(splits) - {s.path.relative_to(path / "JPEGImages").with_suffix("").as_posix() for s in samples}
    ):
        notes.add("images listed in ImageSets/Main do not exist", stem)
    return Dataset(path, "voc", tuple(samples), notes.lines, box_faults=tuple(notes.box_faults.items()))


def _splits(path: Path) -> Iterator[tuple[str, Split]]:
    for split in _SPLITS:
        file = path / "ImageSets" / "Main" / f"{split}.txt"
        if file.is_file():
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.split():
                    yield line.split()[0], split


def _boxes(file: Path, image: Path, notes: Notes) -> tuple[Box, ...] | None:
    try:
        text = _text(file.read_bytes())
    except (LookupError, ValueError) as error:
        raise DataError(f"{file}: is not in the encoding that it names, or UTF-8 ({error}); save it as UTF-8") from None
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # entities can grow without bound, and no annotation needs them
        raise DataError(f"{file}: defines a document type or entities; annotations have none, so it is not read")
    try:
        tree = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"{file}: is no XML ({error})") from None
    found = [_box(element, file) for element in tree.iter("object")]
    return fitted_to(image, found, stated_px=_stated_px(tree), place=file.name, notes=notes)


def _text(content: bytes) -> str:
    """Without its declaration; decoded by ourselves, since the parser knows few of the encodings that tools write."""
    declared = re.match(rb"""\s*<\?xml[^>]*?encoding=["']([\w.-]+)["']""", content)
    text = content.decode(declared.group(1).decode() if declared else "utf-8-sig")
    return re.sub(r"^\s*<\?xml.*?\?>", "", text, count=1, flags=re.DOTALL).strip()


def _stated_px(tree: ElementTree.Element) -> tuple[float, float]:
    """Width and height as the annotation says, infinite where it does not."""
    try:
        width, height = (float(tree.findtext(f"size/{side}") or 0) for side in ("width", "height"))
    except ValueError:
        width = height = 0.0
    return (width, height) if width > 0 and height > 0 else (float("inf"), float("inf"))


def _box(element: ElementTree.Element, file: Path) -> tuple[str, tuple[float, ...]]:
    label = (element.findtext("name") or "").strip()
    if not label:
        raise DataError(f"{file}: an object has no name")
    values = [element.findtext(f"bndbox/{side}") for side in _SIDES]
    return label, numbers(values, count=4, place=f"{file}: {label}")
