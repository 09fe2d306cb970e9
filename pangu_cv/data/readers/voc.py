"""Pascal VOC's layout: ``JPEGImages/``, ``Annotations/*.xml`` and ``ImageSets/Main/<split>.txt``.

Masks of classes lie in ``SegmentationClass/`` (see ``voc_masks``), their lists in ``ImageSets/Segmentation``.
"""

import dataclasses
import os
import re
from pathlib import Path
from xml.etree import ElementTree

from pangu_cv.data.readers import yolo_table
from pangu_cv.data.readers.annotation import Notes, fitted_to, known, numbers
from pangu_cv.data.readers.folders import describe
from pangu_cv.data.readers.image_sets import MAIN, MASKS, has_lists, listed, stems_of
from pangu_cv.data.readers.labelme_shapes import holds_shapes
from pangu_cv.data.readers.rotation import upright
from pangu_cv.data.readers.voc_masks import folder_in
from pangu_cv.data.sample import Box, Dataset, Sample, Split
from pangu_cv.errors import DataError
from pangu_runtime.images import find_images

_MASKS = "folders of masks are left to 'pangu-cv data convert --masks', which makes masks of class numbers"
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def recognises(path: Path) -> bool:
    """Whether images are there, and annotations or masks of them; annotations of labelme are another layout."""
    if not (path / "JPEGImages").is_dir():
        return False
    folder = path / "Annotations"
    if folder.is_dir() and (any(folder.rglob("*.xml")) or not _is_labelme(folder)):
        return True
    return folder_in(path) is not None and yolo_table.table_in(path) is None


def _is_labelme(folder: Path) -> bool:
    return any(holds_shapes(Path(part), names) for part, _, names in os.walk(folder))


def read(path: Path) -> Dataset:
    """Samples with their boxes; an image without a file of annotations is unlabelled. Corners are taken as they stand.

    Headers of images with boxes are read: boxes drawn on another size are not believed, and those images unlabelled, as
    are those of which every box is faulty. Raises DataError on a malformed file, naming it.
    """
    notes = Notes()
    folder = path / "JPEGImages"
    stems = stems_of(find_images(folder) if folder.is_dir() else (), folder)
    masks, is_boxed = folder_in(path), (path / "Annotations").is_dir()
    if masks is not None:
        notes.add(_MASKS, masks.name)
    samples = []
    for image, stem in stems.items():
        file = path / "Annotations" / f"{stem}.xml"
        is_annotated = file.is_file()
        boxes = _boxes(file, image, notes) if is_annotated else None
        if not is_annotated and is_boxed:
            notes.add("images have no file of annotations and are taken as unlabelled", image.name)
        samples.append(Sample(image, boxes=boxes))
    if not samples:
        raise DataError(f"{path}: no image in JPEGImages; found {describe(path)}")
    splits = listed(path, MASKS if not is_boxed and has_lists(path, MASKS) else MAIN, stems, notes)
    parted = tuple(dataclasses.replace(sample, split=splits.get(sample.path)) for sample in samples)
    return Dataset(path, "voc", parted, notes.lines, box_faults=tuple(notes.box_faults.items()))


def mask_splits(dataset: Dataset) -> tuple[dict[Path, Split | None] | None, tuple[str, ...]]:
    """The split of every image, resolved, by the lists for masks, and notes; None where these list none of them.

    What is for testing by the other lists stays so where these do not name it.
    """
    notes = Notes()
    stems = stems_of((sample.path for sample in dataset), dataset.root / "JPEGImages")
    splits = listed(dataset.root, MASKS, stems, notes)
    if not splits:
        return None, notes.lines
    tested: dict[Path, Split | None] = {sample.path: "test" for sample in dataset if sample.split == "test"}
    return {image.resolve(): split for image, split in (tested | splits).items()}, notes.lines


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
