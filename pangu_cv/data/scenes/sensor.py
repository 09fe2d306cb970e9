"""What the drone's camera adds: focus, exposure, white balance, vignetting and grain."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pangu_cv.data.scenes.noise import Floats


def meter(picture_3HW: Floats) -> float:
    """The exposure a camera chooses for a background with colours 0 to 1."""
    return float(np.clip((0.50 / max(float(picture_3HW.mean()), 0.05)) ** 0.55, 0.85, 1.45))


def expose(
    image: Image.Image, rng: np.random.Generator, *, gain: float, grain: tuple[float, float]
) -> NDArray[np.uint8]:
    """The photograph of a drawn image, uint8[H, W, 3]; ``gain`` is the exposure metered for it."""
    if rng.random() < 0.3:
        image = Image.fromarray(_softened(np.asarray(image)))
    picture = np.asarray(image.point(_tone_curves(rng, gain)))
    lit = _high_byte(picture * _vignette(image.width, int(rng.integers(_VIGNETTES))))
    # As signed numbers, for grain takes some pixels below black and others above white.
    grainy = lit.view(np.int16)
    grainy += _draw_grain(rng, lit.size, rng.uniform(*grain)).reshape(lit.shape)
    return np.asarray(np.clip(grainy, 0, 255, out=grainy), np.uint8)


def _softened(picture_HW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A focus that is a little off: a box of 1.8 pixels, weighed in 256ths, down and then across."""
    soft = picture_HW3
    for axis in (0, 1):
        lines = np.moveaxis(soft, axis, 0)
        lines = np.concatenate([lines[:1], lines, lines[-1:]])
        blurred = np.multiply(lines[1:-1], 142, dtype=np.uint16)
        for beside in (lines[:-2], lines[2:]):
            blurred += np.multiply(beside, 57, dtype=np.uint16)
        soft = np.moveaxis(_high_byte(blurred).astype(np.uint8), 0, axis)
    return np.ascontiguousarray(soft)


def _high_byte(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """A 256th, rounded, in place."""
    values += 128
    values >>= 8
    return values


def _tone_curves(rng: np.random.Generator, metered: float) -> list[int]:
    """Exposure, contrast and white balance as one table of 3 x 256 entries."""
    gain, contrast = metered * rng.normal(1.0, 0.05), rng.uniform(0.0, 0.22)
    warmth = rng.normal(0.0, 0.014)
    levels = np.arange(256) / 255
    curved = levels + contrast * (levels * levels * (3 - 2 * levels) - levels)
    balance = np.array([1 + warmth, 1.0, 1 - warmth])[:, None]
    table: list[int] = np.clip(255 * gain * balance * curved, 0, 255).round().astype(int).ravel().tolist()
    return table


_VIGNETTES = 6


@lru_cache(maxsize=2 * _VIGNETTES)
def _vignette(side_px: int, strength: int) -> NDArray[np.uint16]:
    """Gains of up to 256 that fall with the cube of the distance from the middle, uint16[side, side, 3]."""
    steps = np.linspace(-1, 1, side_px, dtype=np.float32)
    away = ((steps[None] ** 2 + steps[:, None] ** 2) / 2) ** np.float32(1.5)
    gain = 256 * (1 - (0.07 + 0.035 * strength) * away)
    return np.repeat(np.round(gain).astype(np.uint16)[..., None], 3, axis=2)


_POOL = 1 << 21
_POOL_DEVIATION = 127 / np.sqrt(6.0)


def _draw_grain(rng: np.random.Generator, count: int, deviation: float) -> NDArray[np.int16]:
    """Noise of a standard deviation in grey levels: a stretch of the pool that begins at any of two million places."""
    start = int(rng.integers(_POOL))
    grain = np.multiply(
        _grain_pool(count)[start : start + count], round(256 * deviation / _POOL_DEVIATION), dtype=np.int16
    )
    grain += 128
    grain >>= 8
    return np.asarray(grain)


@lru_cache(maxsize=2)
def _grain_pool(count: int) -> NDArray[np.int8]:
    """Triangular noise over int8: drawing it afresh would cost more than all else that the sensor does."""
    noise = np.random.default_rng(12).integers(0, 128, (2, _POOL + count), np.int8)
    return np.asarray(noise[0] - noise[1])
