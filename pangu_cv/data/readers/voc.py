"""Pascal VOC's layout: ``JPEGImages/``, ``Annotations/*.xml`` and ``ImageSets/Main/<split>.txt``.

Masks of classes lie in ``SegmentationClass/``, and their splits in ``ImageSets/Segmentation``; see ``voc_masks``.
"""

import re
from collections.abc import Iterator, Set
from pathlib import Path
from xml.etree import ElementTree

from pangu_cv.data.readers.annotation import Notes, fitted_to, known, numbers, read_utf8
from pangu_cv.data.readers.folders import SPLIT_WORDS, SPLITS, describe, subfolders
from pangu_cv.data.readers.labelme_shapes import holds_shapes
from pangu_cv.data.readers.rotation import upright
from pangu_cv.data.readers.voc_masks import folder_in
from pangu_cv.data.sample import Box, Dataset, Sample, Split
from pangu_cv.errors import DataError
from pangu_runtime.images import find_images, is_image_name

_MASKS = "folders of masks are left to 'pangu-cv data convert --masks', which makes masks of class numbers"
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def recognises(path: Path) -> bool:
    """Whether images are there, and annotations or masks of them; annotations of labelme are another layout."""
    if not (path / "JPEGImages").is_dir():
        return False
    folder = path / "Annotations"
    if folder.is_dir() and (any(folder.rglob("*.xml")) or not _is_labelme(folder)):
        return True
    return folder_in(path) is not None


def _is_labelme(folder: Path) -> bool:
    parts = (folder, *subfolders(folder))
    return any(holds_shapes(part, [entry.name for entry in part.iterdir()]) for part in parts)


def read(path: Path) -> Dataset:
    """Samples with their boxes; an image without a file of annotations is unlabelled. Corners are taken as they stand.

    Headers of images with boxes are read: boxes drawn on another size are not believed, and those images unlabelled, as
    are those of which every box is faulty. Raises DataError on a malformed file, naming it.
    """
    notes = Notes()
    folder = path / "JPEGImages"
    images = find_images(folder) if folder.is_dir() else ()
    stems = [image.relative_to(folder).with_suffix("").as_posix() for image in images]
    masks, is_boxed = folder_in(path), (path / "Annotations").is_dir()
    lists = _lists(path, is_boxed=is_boxed)
    splits = _splits(lists, set(stems), notes)
    if masks is not None:
        notes.add(_MASKS, masks.name)
    samples = []
    for image, stem in zip(images, stems, strict=True):
        file = path / "Annotations" / f"{stem}.xml"
        is_annotated = file.is_file()
        boxes = _boxes(file, image, notes) if is_annotated else None
        if not is_annotated and is_boxed:
            notes.add("images have no file of annotations and are taken as unlabelled", image.name)
        if splits and stem not in splits:
            notes.add(f"images are in no list of ImageSets/{lists.name}", image.name)
        samples.append(Sample(image, split=splits.get(stem), boxes=boxes))
    if not samples:
        raise DataError(f"{path}: no image in JPEGImages; found {describe(path)}")
    for stem in sorted(splits.keys() - set(stems)):
        notes.add(f"images listed in ImageSets/{lists.name} do not exist", stem)
    return Dataset(path, "voc", tuple(samples), notes.lines, box_faults=tuple(notes.box_faults.items()))


def mask_splits(path: Path) -> tuple[dict[Path, Split | None] | None, tuple[str, ...]]:
    """The split of every image, resolved, by the lists for masks, and notes; None where these list none of them."""
    images = find_images(path / "JPEGImages")
    stems = {image.relative_to(path / "JPEGImages").with_suffix("").as_posix(): image.resolve() for image in images}
    notes = Notes()
    splits = _splits(path / "ImageSets" / "Segmentation", stems.keys(), notes)
    if splits.keys().isdisjoint(stems):
        return None, notes.lines
    for stem in sorted(splits.keys() - stems.keys()):
        notes.add("images listed in ImageSets/Segmentation do not exist", stem)
    return {image: splits.get(stem) for stem, image in stems.items()}, notes.lines


def _lists(path: Path, *, is_boxed: bool) -> Path:
    """The folder of lists; where there are no boxes that for masks, if it has one of a split."""
    main, masks = path / "ImageSets" / "Main", path / "ImageSets" / "Segmentation"
    is_split = any(file.stem.lower() in SPLIT_WORDS for file in masks.glob("*.txt"))
    return masks if not is_boxed and is_split else main


def _splits(folder: Path, stems: Set[str], notes: Notes) -> dict[str, Split]:
    """The split of every listed stem; of several the last in the order train, val, test, so trainval yields to val."""
    lists = {file: SPLIT_WORDS.get(file.stem.lower()) for file in sorted(folder.glob("*.txt")) if file.name[0] != "."}
    for file in (file for file, split in lists.items() if split is None):
        notes.add(f"lists of ImageSets/{folder.name} are named for no split and were not read", file.name)
    named = ((file, split) for split in SPLITS for file, own in lists.items() if own == split)
    return {stem: split for file, split in named for stem in _listed(file, stems)}


def _listed(file: Path, stems: Set[str]) -> Iterator[str]:
    for line in read_utf8(file).splitlines():
        name = line.strip()
        if name not in stems:  # a class's list says in a second column whether the class is there
            name = re.sub(r"\s+-?[01]$", "", name)
        if name not in stems and is_image_name(name):
            name = Path(name).with_suffix("").as_posix()
        if name:
            yield name


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
    found = [_box(element, file, notes) for element in tree.iter("object")]
    boxes = fitted_to(image, found, stated_px=_stated_px(tree), place=file.name, notes=notes)
    return known(boxes, was_annotated=bool(found), image=image, notes=notes)


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


def _box(element: ElementTree.Element, file: Path, notes: Notes) -> tuple[str, tuple[float, ...]]:
    label = (element.findtext("name") or "").strip()
    if not label:
        raise DataError(f"{file}: an object has no name")
    values = [element.findtext(f"bndbox/{side}") for side in _SIDES]
    corners = numbers(values, count=4, place=f"{file}: {label}")
    rotation = element.findtext("attributes/attribute[name='rotation']/value")
    return label, upright(corners, rotation, place=file.name, notes=notes)
