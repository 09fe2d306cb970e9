"""Anomaly maps and truth masks drawn onto the image they belong to; numpy and pillow only."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pangu_cv.metrics.interval import FloatArray
from pangu_cv.report.picture import ImageArray

# Anchors of "inferno" (van der Walt and Smith 2015), perceptually uniform: equal steps of score look equal. Its black
# end is left out, because here low scores are transparent.
_ANCHORS: Final = np.array(
    [
        (31, 12, 72),
        (85, 15, 109),
        (136, 34, 106),
        (186, 54, 85),
        (227, 89, 51),
        (249, 140, 10),
        (249, 201, 50),
        (252, 255, 164),
    ],
    dtype=np.float64,
)
_ONSET: Final = 0.75  # share of the threshold below which the image is left alone
_ALPHA_AT_THRESHOLD: Final = 0.5
_COLOUR_AT_THRESHOLD: Final = 0.5  # the middle of the map, so that all above is warm however high the highest score
_ALPHA_AT_MOST: Final = 0.85
_OUTLINE: Final = (0, 229, 255)  # cyan is rare on parts, and no colour of the map


def overlay(image_HW3: ImageArray, map_HW: FloatArray, *, threshold: float, vmax: float | None = None) -> ImageArray:
    """The image with its map laid over it: untouched where scores are far below ``threshold``, glowing above.

    ``vmax`` is the score of the brightest colour (default: the map's highest, at least 1.5 thresholds); give one for
    pictures that are to be compared. A map of another size is scaled to the image.
    """
    scores_HW = _fitted(map_HW, image_HW3.shape[:2])
    brightest = float(scores_HW.max()) if vmax is None else vmax
    top = max(brightest, 1.5 * threshold, 1e-30)  # 1e-30: a map of zeros under a threshold of zero
    knots = [_ONSET * threshold, threshold, top] if threshold > 0 else [-1.0, 0.0, top]
    alpha_HW = np.interp(scores_HW, knots, [0, _ALPHA_AT_THRESHOLD if threshold > 0 else 0, _ALPHA_AT_MOST])
    colour_HW3 = _coloured(np.interp(scores_HW, knots, [0, _COLOUR_AT_THRESHOLD, 1]))
    blended = image_HW3 + (colour_HW3 - image_HW3) * alpha_HW[..., None]
    return np.rint(blended).astype(np.uint8)


def outline(image_HW3: ImageArray, mask_HW: NDArray[np.generic]) -> ImageArray:
    """The image with the contour of a mask (non-zero inside), dark-edged to be seen on any ground."""
    inside_HW = mask_HW != 0
    if inside_HW.shape != image_HW3.shape[:2]:
        height, width = image_HW3.shape[:2]
        resized = Image.fromarray(inside_HW).resize((width, height), Image.Resampling.NEAREST)
        inside_HW = np.asarray(resized, dtype=bool)
    width_px = max(1, round(max(inside_HW.shape) / 180))
    near_HW = _grown(inside_HW, width_px)
    drawn = image_HW3.copy()
    drawn[_grown(near_HW, max(1, width_px // 2)) & ~near_HW] = 0
    drawn[near_HW & ~inside_HW] = _OUTLINE
    return drawn


def _fitted(map_HW: FloatArray, shape: tuple[int, ...]) -> NDArray[np.float64]:
    scores = np.nan_to_num(map_HW.astype(np.float32))
    if scores.shape != shape:
        height, width = shape
        scores = np.asarray(Image.fromarray(scores).resize((width, height), Image.Resampling.BILINEAR))
    return scores.astype(np.float64)


def _coloured(t_HW: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours of values in 0..1, interpolated between the anchors."""
    knots = np.linspace(0, 1, len(_ANCHORS))
    return np.stack([np.interp(t_HW, knots, channel) for channel in _ANCHORS.T], axis=-1)


def _grown(mask_HW: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """The mask and its neighbours up to ``steps`` away, in a diamond."""
    for _ in range(steps):
        padded = np.pad(mask_HW, 1)
        mask_HW = padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return mask_HW
