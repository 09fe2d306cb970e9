"""Copy-paste of labelled defects: one is cut from an image and blended into another (arXiv 2012.07177).

Rare defects are then seen on more backgrounds. The cut follows the mask where there is one, else the box; its edge is
soft, and its brightness is moved to that of its new surroundings, so that the seam is not what is learnt (the last two
are ours). Shapes: H×W pixels, K boxes.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.masks import IGNORE
from pangu_cv.models.labelled import Labelled, Pixels

_TRIES = 10
_MARGIN = 0.15  # of the cut's size, around it: where surroundings are looked at and the edge fades
_LEAST_PX = 4
_WHOLE = 0.9  # share of a box from which it is inside another
_TOUCHED = 0.1  # share of a box from which another has a part of it


@dataclass(frozen=True)
class Cut:
    """A defect with its surroundings: pixels uint8[h,w,3], how much of each is the defect's float32[h,w], its mask
    uint8[h,w] or None; boxes float32[K,4] (xyxy in the cut) and labels of what is in it."""

    image: Pixels
    alpha: NDArray[np.float32]
    mask: Pixels | None
    boxes_K4: NDArray[np.float32]
    label_K: NDArray[np.int64]


def cut(donor: Labelled, random: np.random.Generator) -> Cut | None:
    """A random labelled defect of an image; None where it has none.

    A box takes along the boxes inside it (an insulator its defect); one that cuts others apart is not taken.
    """
    if len(donor.boxes_K4):
        return _cut_box(donor, int(random.integers(len(donor.boxes_K4))))
    if donor.mask is None or (found := _component(donor.mask, random)) is None:
        return None
    component, box = found
    window = _around(box, donor.image.shape)
    inside = _part(component, window)
    mask = np.where(inside, _part(donor.mask, window), 0).astype(np.uint8)
    return Cut(
        _part(donor.image, window), _soft(inside.astype(np.float32)), mask, donor.boxes_K4[:0], donor.label_K[:0]
    )


def _cut_box(donor: Labelled, at: int) -> Cut | None:
    box, boxes = donor.boxes_K4[at], donor.boxes_K4
    low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
    shared = (high - low).clip(min=0).prod(1) / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1), 1e-9)
    inside = shared >= _WHOLE
    if ((shared > _TOUCHED) & ~inside).any():
        return None
    window = _around(box, donor.image.shape)
    shift = np.tile(np.array(window[:2], np.float32), 2)
    alpha = np.zeros((window[3] - window[1], window[2] - window[0]), np.float32)
    x0, y0, x1, y1 = (box - shift).round().astype(int)
    alpha[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = 1
    inner = (boxes[inside] - shift).astype(np.float32)
    return Cut(_part(donor.image, window), _soft(alpha), None, inner, donor.label_K[inside])


def paste(target: Labelled, piece: Cut, random: np.random.Generator) -> Labelled:
    """The image with the piece at a random place where nothing is labelled; as it was where none is found."""
    height, width = piece.alpha.shape
    if height > target.image.shape[0] or width > target.image.shape[1]:
        return target
    for _ in range(_TRIES):
        y = int(random.integers(target.image.shape[0] - height + 1))
        x = int(random.integers(target.image.shape[1] - width + 1))
        if _is_free(target, x, y, piece):
            return _pasted(target, piece, x, y)
    return target


def _pasted(target: Labelled, piece: Cut, x: int, y: int) -> Labelled:
    height, width = piece.alpha.shape
    where = (slice(y, y + height), slice(x, x + width))
    image, there = target.image.copy(), target.image[where].astype(np.float32)
    around = piece.alpha < 0.05
    moved = piece.image.astype(np.float32)
    if around.any():
        moved = moved + there[around].mean(0) - moved[around].mean(0)
    share = piece.alpha[..., None]
    image[where] = (share * moved + (1 - share) * there).round().clip(0, 255).astype(np.uint8)
    mask = target.mask
    if mask is not None and piece.mask is not None:
        mask = mask.copy()
        mask[where] = np.where(piece.mask > 0, piece.mask, mask[where])
    moved_K4 = piece.boxes_K4 + np.array([x, y, x, y], np.float32)
    boxes = np.concatenate([target.boxes_K4, moved_K4]).astype(np.float32)
    return Labelled(image, mask, boxes, np.concatenate([target.label_K, piece.label_K]))


def _is_free(target: Labelled, x: int, y: int, piece: Cut) -> bool:
    """Whether the piece covers no labelled pixel, and its surroundings no labelled box."""
    height, width = piece.alpha.shape
    if target.mask is not None and piece.mask is not None:
        return not (target.mask[y : y + height, x : x + width][piece.mask > 0] > 0).any()
    boxes = target.boxes_K4
    low = np.maximum(boxes[:, :2], [x, y])
    high = np.minimum(boxes[:, 2:], [x + width, y + height])
    return not (high > low).all(1).any()


def _component(mask_HW: Pixels, random: np.random.Generator) -> tuple[NDArray[np.bool_], NDArray[np.float32]] | None:
    """A random connected part of what is labelled, bool[H,W], and its box."""
    labelled = ((mask_HW > 0) & (mask_HW != IGNORE)).astype(np.uint8)
    _, names, stats, _ = cv2.connectedComponentsWithStats(labelled, connectivity=8)
    numbers = [number for number in range(1, len(stats)) if stats[number][4] >= _LEAST_PX]
    if not numbers:
        return None
    number = numbers[int(random.integers(len(numbers)))]
    x, y, w, h, _ = stats[number]
    return names == number, np.array([x, y, x + w, y + h], np.float32)


def _around(box: NDArray[np.float32], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The box with a margin, in whole pixels inside the image: x0, y0, x1, y1."""
    margin = max(2.0, _MARGIN * float(max(box[2] - box[0], box[3] - box[1])))
    x0, y0 = np.floor(np.maximum(box[:2] - margin, 0)).astype(int)
    x1, y1 = np.ceil(np.minimum(box[2:] + margin, [shape[1], shape[0]])).astype(int)
    return int(x0), int(y0), int(x1), int(y1)


def _part(array: NDArray[np.generic], window: tuple[int, int, int, int]) -> NDArray:  # type: ignore[type-arg]
    x0, y0, x1, y1 = window
    return array[y0:y1, x0:x1]


def _soft(alpha_HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """The edge fades outwards over a few pixels; the defect itself is kept whole."""
    deviation = max(0.8, 0.03 * max(alpha_HW.shape))
    blurred = cv2.GaussianBlur(alpha_HW, (0, 0), deviation)
    return np.asarray(np.maximum(alpha_HW, blurred), np.float32)
