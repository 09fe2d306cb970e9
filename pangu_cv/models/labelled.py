"""An image with what is labelled in it, and a part of it. Shapes: H×W pixels, K boxes."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
_LEAST_BOX = 0.3  # of its area: a box of which less is left in a crop is no longer labelled


@dataclass(frozen=True)
class Labelled:
    """An image uint8[H,W,3], its mask uint8[H,W] or None, boxes float32[K,4] (xyxy in pixels) and their classes."""

    image: Pixels
    mask: Pixels | None
    boxes_K4: NDArray[np.float32]
    label_K: NDArray[np.int64]


def crop(labelled: Labelled, x0: int, y0: int, x1: int, y1: int) -> Labelled:
    """The window's part; boxes are cut at its edges, and left out where little of them is left."""
    boxes = labelled.boxes_K4
    shift = np.array([x0, y0, x0, y0], np.float32)
    cut = np.stack(
        [boxes[:, 0].clip(x0, x1), boxes[:, 1].clip(y0, y1), boxes[:, 2].clip(x0, x1), boxes[:, 3].clip(y0, y1)], 1
    )
    stays = _area(cut) >= _LEAST_BOX * np.maximum(_area(boxes), 1e-9)
    mask = None if labelled.mask is None else np.ascontiguousarray(labelled.mask[y0:y1, x0:x1])
    image = np.ascontiguousarray(labelled.image[y0:y1, x0:x1])
    return Labelled(image, mask, (cut - shift)[stays], labelled.label_K[stays])


def shrunk(labelled: Labelled, *, most_px: int) -> Labelled:
    """The same with its longer side at most ``most_px``, to be looked at."""
    height, width = labelled.image.shape[:2]
    if max(height, width) <= most_px:
        return labelled
    scale = most_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = cv2.resize(labelled.image, size, interpolation=cv2.INTER_AREA)
    mask = None if labelled.mask is None else cv2.resize(labelled.mask, size, interpolation=cv2.INTER_NEAREST)
    stretch = np.array([size[0] / width, size[1] / height] * 2, np.float32)
    return Labelled(
        image.astype(np.uint8),
        None if mask is None else mask.astype(np.uint8),
        labelled.boxes_K4 * stretch,
        labelled.label_K,
    )


def _area(boxes_K4: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((boxes_K4[:, 2] - boxes_K4[:, 0]) * (boxes_K4[:, 3] - boxes_K4[:, 1]), np.float32)
