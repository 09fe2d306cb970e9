"""Pictures made of pieces of pictures, for a network that is to see more kinds of surfaces than there are images of.

Dead leaves (Lee, Mumford and Huang 2001; for training in arXiv 2106.05963): shapes of all sizes cover one another, as
things do. Ours are filled with pieces of the given images, turned, enlarged or reduced, and toned anew, beside smooth
noise; so their edges and textures are real while their arrangement is made up. No torch.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
_SHAPES = ("circle", "polygon", "strip")


def collage(images: Sequence[Pixels], *, side_px: int, seed: int) -> Pixels:
    """One picture uint8[S,S,3] of pieces of ``images`` (uint8[H,W,3], any sizes); ``seed`` decides everything."""
    random = np.random.default_rng(seed)
    picture = _surface(images, side_px, random)
    largest = side_px / random.uniform(1.5, 6)
    for _ in range(random.integers(4, 60)):
        radius = 2 + (largest - 2) * random.power(0.7) * random.uniform()
        mask = _shape(side_px, radius, random)
        picture[mask] = _surface(images, side_px, random)[mask]
    if random.uniform() < 0.3:
        picture = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    return picture


def _surface(images: Sequence[Pixels], side_px: int, random: np.random.Generator) -> Pixels:
    """A whole picture's worth of one material."""
    if random.uniform() < 0.15:
        return _toned(_noise(side_px, random), random)
    image = images[int(random.integers(len(images)))]
    height, width = image.shape[:2]
    cut = int(max(8, min(height, width) * random.uniform(0.15, 1)))
    top, left = random.integers(height - cut + 1), random.integers(width - cut + 1)
    piece = np.rot90(image[top : top + cut, left : left + cut], int(random.integers(4)))
    if random.uniform() < 0.5:
        piece = piece[:, ::-1]
    piece = cv2.resize(np.ascontiguousarray(piece), (side_px, side_px), interpolation=cv2.INTER_AREA)
    return _toned(piece, random)


def _noise(side_px: int, random: np.random.Generator) -> Pixels:
    """Smooth noise of several scales; one direction may be stretched, as in brushed or rolled surfaces."""
    total = np.zeros((side_px, side_px, 3), np.float32)
    stretch = random.choice([1, 1, 4, 16])
    for level in range(2, int(np.log2(side_px)) + 1):
        size = (max(1, 2**level // stretch), 2**level)
        grid = random.normal(size=(*size[::-1], 3)).astype(np.float32)
        large = cv2.resize(grid, (side_px, side_px), interpolation=cv2.INTER_CUBIC)
        total += large / 2 ** (level * random.uniform(0.3, 1))
    spread = (total - total.min()) / (np.ptp(total) + 1e-6)
    return np.ascontiguousarray((255 * spread).astype(np.uint8))


def _toned(piece: Pixels, random: np.random.Generator) -> Pixels:
    """Contrast, brightness and colour cast drawn anew; now and then a negative."""
    gain = random.uniform(0.4, 1.5) * random.uniform(0.8, 1.2, 3) * (-1 if random.uniform() < 0.15 else 1)
    toned = (piece.astype(np.float32) - 128) * gain + 128 + random.normal(0, 35) + random.normal(0, 8, 3)
    return np.clip(toned, 0, 255).astype(np.uint8)


def _shape(side_px: int, radius: float, random: np.random.Generator) -> NDArray[np.bool_]:
    """Where a leaf lies."""
    mask = np.zeros((side_px, side_px), np.uint8)
    centre = random.integers(0, side_px, 2)
    kind = _SHAPES[random.integers(len(_SHAPES))]
    if kind == "circle":
        axes = (max(1, int(radius)), max(1, int(radius * random.uniform(0.3, 1))))
        cv2.ellipse(mask, centre.tolist(), axes, random.uniform(0, 180), 0, 360, 1, -1)
    else:
        corners = random.integers(3, 8)
        angles = np.sort(random.uniform(0, 2 * np.pi, corners))
        reach = radius * random.uniform(0.4, 1, corners)
        points = centre + reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
        if kind == "strip":  # scratches, wires, seams
            away = 2 * radius * np.array([1, random.uniform(-1, 1)])
            ends = [(centre + sign * away).astype(int).tolist() for sign in (-1, 1)]
            cv2.line(mask, ends[0], ends[1], 1, int(random.integers(1, max(2, int(radius / 6)) + 1)))
        else:
            cv2.fillPoly(mask, [points.astype(np.int32)], 1)
    return mask.astype(bool)
