"""A few pictures of every class, to look at before training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError, ImageError
from pangu_runtime.decode import DEFAULT_SPEC, DecodeSpec, decode

_GREY = 127


@dataclass(frozen=True, slots=True)
class ClassRow:
    """Thumbnails uint8 [N, T, T, 3] of one class, and the class's name (empty for unlabelled images)."""

    label: str
    thumbnails: NDArray[np.uint8]


def class_rows(
    dataset: Dataset, *, per_class: int = 6, thumb_px: int = 96, spec: DecodeSpec = DEFAULT_SPEC
) -> tuple[ClassRow, ...]:
    """Up to ``per_class`` pictures of every class, evenly spread over its order, fitted into squares on grey.

    An unreadable image is shown as a cross.
    """
    rows = []
    for label in sorted({s.label or "" for s in dataset}):
        chosen = _spread([s for s in dataset if (s.label or "") == label], per_class)
        rows.append(ClassRow(label, np.stack([_thumbnail(s, thumb_px, spec) for s in chosen])))
    return tuple(rows)


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


def _spread(samples: Sequence[Sample], number: int) -> list[Sample]:
    if len(samples) <= number:
        return list(samples)
    return [samples[at * len(samples) // number] for at in range(number)]


def _thumbnail(sample: Sample, thumb_px: int, spec: DecodeSpec) -> NDArray[np.uint8]:
    square = np.full((thumb_px, thumb_px, 3), _GREY, np.uint8)
    try:
        picture = Image.fromarray(decode(sample.path, spec=spec))
    except ImageError:
        cross = np.eye(thumb_px, dtype=bool)
        square[cross | cross[:, ::-1]] = (200, 0, 0)
        return square
    scale = thumb_px / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    small = np.asarray(picture.resize((width, height), Image.Resampling.BOX))
    top, left = (thumb_px - height) // 2, (thumb_px - width) // 2
    square[top : top + height, left : left + width] = small
    return square
