"""A few pictures of every class, to look at before training."""

from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pangu_cv.data.class_names import NO_OBJECT
from pangu_cv.data.masks import read_class_mask, read_mask
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError, ImageError
from pangu_runtime.decode import DEFAULT_SPEC, DecodeSpec, decode

_GREY = 127
_MARK = (0, 229, 255)  # cyan is rare on parts
_MOST_MASKS = 300  # read to learn which classes they show


@dataclass(frozen=True, slots=True)
class ClassRow:
    """Thumbnails uint8 [N, T, T, 3] of one class, and the class's name (empty for unlabelled images)."""

    label: str
    thumbnails: NDArray[np.uint8]


def class_rows(
    dataset: Dataset, *, per_class: int = 6, thumb_px: int = 96, spec: DecodeSpec = DEFAULT_SPEC
) -> tuple[ClassRow, ...]:
    """Up to ``per_class`` pictures of every class, evenly spread over its order, fitted into squares on grey.

    The boxes of the class are outlined, its pixels in a mask tinted. Where masks number classes, at most 300 of them,
    evenly spread, are read to find them. An unreadable image is shown as a cross.
    """
    classes = dataset.mask_classes
    shown: dict[str, list[Sample]] = defaultdict(list)
    for sample in _spread(dataset.samples, _MOST_MASKS) if classes else dataset:
        for label in _labels(sample, classes):
            shown[label].append(sample)
    return tuple(
        ClassRow(label, np.stack([_thumbnail(s, label, classes, thumb_px, spec) for s in _spread(found, per_class)]))
        for label, found in sorted(shown.items())
    )


def contact_sheet(rows: Sequence[ClassRow], *, gap_px: int = 4) -> NDArray[np.uint8]:
    """One picture uint8 [H, W, 3], a line per class in the order of ``rows``. Raises DataError without rows."""
    if not rows:
        raise DataError("a contact sheet needs at least one class with an image")
    thumb_px = rows[0].thumbnails.shape[1]
    step = thumb_px + gap_px
    columns = max(len(row.thumbnails) for row in rows)
    sheet = np.full((len(rows) * step + gap_px, columns * step + gap_px, 3), 255, np.uint8)
    for at, row in enumerate(rows):
        top = gap_px + at * step
        for column, thumbnail in enumerate(row.thumbnails):
            left = gap_px + column * step
            sheet[top : top + thumb_px, left : left + thumb_px] = thumbnail
    return sheet


def _labels(sample: Sample, classes: Sequence[str]) -> Set[str]:
    """The classes an image is an example of; ``classes`` are those that masks number."""
    if sample.boxes is not None:
        return {box.label for box in sample.boxes} or {NO_OBJECT}
    if sample.label is None and sample.mask is not None and classes:
        try:
            values = np.unique(read_class_mask(sample.mask, classes=len(classes)))
        except ImageError:
            return {""}
        return {classes[value] for value in values if 0 < value < len(classes)} or {NO_OBJECT}
    return {sample.label or ""}


def _spread(samples: Sequence[Sample], number: int) -> list[Sample]:
    if len(samples) <= number:
        return list(samples)
    return [samples[at * len(samples) // number] for at in range(number)]


def _thumbnail(
    sample: Sample, label: str, classes: Sequence[str], thumb_px: int, spec: DecodeSpec
) -> NDArray[np.uint8]:
    square = np.full((thumb_px, thumb_px, 3), _GREY, np.uint8)
    try:
        picture = Image.fromarray(decode(sample.path, spec=spec))
    except ImageError:
        cross = np.eye(thumb_px, dtype=bool)
        square[cross | cross[:, ::-1]] = (200, 0, 0)
        return square
    scale = thumb_px / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    small = picture.resize((width, height), Image.Resampling.BOX)
    if (marked_HW := _marked(sample, label, classes)) is not None:
        tint = Image.fromarray(marked_HW.astype(np.uint8) * 140).resize(small.size, Image.Resampling.BOX)
        small.paste(_MARK, mask=tint)
    pen = ImageDraw.Draw(small)
    for box in sample.boxes or ():
        if box.label == label:
            pen.rectangle([edge * scale for edge in box.xyxy], outline=_MARK)
    top, left = (thumb_px - height) // 2, (thumb_px - width) // 2
    square[top : top + height, left : left + width] = np.asarray(small)
    return square


def _marked(sample: Sample, label: str, classes: Sequence[str]) -> NDArray[np.bool_] | None:
    """Where the mask shows the class, bool[H,W]; None where there is no mask that can be used."""
    if sample.mask is None:
        return None
    try:
        if not classes:
            return read_mask(sample.mask)
        numbers_HW = read_class_mask(sample.mask, classes=len(classes))
    except ImageError:
        return None
    return np.asarray(numbers_HW == classes.index(label)) if label in classes else None
