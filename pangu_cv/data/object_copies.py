"""The same object in several pictures: cut out and put on other backgrounds, turned, stretched, or seen again.

Whole pictures tell nothing of composites. Corners and blobs of the annotated objects (of whole pictures where nothing
is annotated) are compared by SIFT (Lowe, 2004), and counted where one affine map takes them from the one to the other.
Time grows with the square of the number of images, a few milliseconds a pair. Needs OpenCV (``pangu-cv[train]``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.near_duplicates import groups_of
from pangu_cv.data.sample import Sample
from pangu_cv.errors import ImageError, MissingExtraError
from pangu_runtime.decode import DecodeSpec, decode

_POINTS = 300  # of a picture, the strongest
_SIDE_PX = 1024
_RATIO = 0.8  # Lowe's: how much nearer the best match must be than the second
_LEAST_PX = 24  # boxes smaller than that have too few points to be known again
INLIERS = 25
"""Points that move together. On cplid, 200 pictures of which 107 are composites of a dozen insulators, no picture
shares more than 22 with one that is no composite, and composites of one insulator up to 110."""
_REACH_PX = 4.0


@dataclass(frozen=True)
class Points:
    """Where the points are, float32[P,2] in pixels, and what they look like, float32[P,128] of unit length."""

    at_P2: NDArray[np.float32]
    look_PD: NDArray[np.float32]


def object_copies(
    samples: Sequence[Sample],
    *,
    spec: DecodeSpec,
    inliers: int = INLIERS,
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[int, ...]]:
    """Places of samples that show the same object, in chains; pictures that cannot be read are passed over."""
    points = [_read(sample, spec) for sample in samples]
    pairs, total = [], len(points)
    for i, one in enumerate(points):
        pairs += [(i, j) for j in range(i + 1, total) if moving_together(one, points[j], least=inliers) >= inliers]
        if progress:
            progress(i + 1, total)
    return groups_of(pairs)


def points_of(rgb: NDArray[np.uint8], boxes_xyxy: Sequence[Sequence[float]] | None = None) -> Points:
    """The strongest points of a picture uint8[H,W,3], of its boxes alone where there are some."""
    cv2 = _opencv()
    scale = min(1.0, _SIDE_PX / max(rgb.shape[:2]))
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if scale < 1:
        size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    inside = None
    if boxes_xyxy is not None:
        inside = np.zeros(grey.shape, np.uint8)
        for box in boxes_xyxy:
            x0, y0, x1, y1 = (max(0, round(float(value) * scale)) for value in box)
            if min(x1 - x0, y1 - y0) >= _LEAST_PX:
                inside[y0:y1, x0:x1] = 255
    found, look = cv2.SIFT_create(nfeatures=_POINTS).detectAndCompute(grey, inside)
    if look is None:
        return Points(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    length = np.linalg.norm(look, axis=1, keepdims=True)
    return Points(np.array([one.pt for one in found], np.float32), (look / np.maximum(length, 1e-6)).astype(np.float32))


def moving_together(one: Points, other: Points, *, least: int = 8) -> int:
    """How many points of the one an affine map takes to their like in the other; 0 where not ``least`` look alike."""
    if len(one.at_P2) < 3 or len(other.at_P2) < 3:
        return 0
    alike = one.look_PD @ other.look_PD.T
    best, second = np.partition(alike, (-1, -2), axis=1)[:, [-1, -2]].T
    # Of unit vectors the squared distance is 2 - 2 cos.
    clear = (1 - best) < _RATIO**2 * (1 - second)
    if clear.sum() < max(3, least):
        return 0
    source, target = one.at_P2[clear], other.at_P2[alike.argmax(1)[clear]]
    _, inside = _opencv().estimateAffine2D(source, target, ransacReprojThreshold=_REACH_PX)
    return 0 if inside is None else int(inside.sum())


def _read(sample: Sample, spec: DecodeSpec) -> Points:
    boxes = None if not sample.boxes else [box.xyxy for box in sample.boxes]
    try:
        return points_of(decode(sample.path, spec=spec), boxes)
    except ImageError:
        return Points(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))


def require_opencv() -> None:
    """Raises MissingExtraError where the comparison cannot be made."""
    _opencv()


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise MissingExtraError("data check --objects", "train", "cv2") from None
    cv2.setRNGSeed(0)  # RANSAC draws at random
    return cv2
