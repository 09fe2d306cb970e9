"""What the drone's camera adds: focus, exposure, white balance, vignetting and grain."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from pangu_cv.data.scenes.noise import Floats


def meter(picture_HW3: Floats) -> float:
    """The exposure a camera chooses for a background with colours 0 to 1."""
    return float(np.clip((0.50 / max(float(picture_HW3.mean()), 0.05)) ** 0.55, 0.85, 1.45))


def expose(
    image: Image.Image, rng: np.random.Generator, *, gain: float, grain: tuple[float, float]
) -> NDArray[np.uint8]:
    """The photograph of a drawn image, uint8[H, W, 3]; ``gain`` is the exposure metered for it."""
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.BoxBlur(0.4))
    image = image.point(_tone_curves(rng, gain))
    image = ImageChops.multiply(image, _vignette(image.width, int(rng.integers(_VIGNETTES))))
    noise = Image.frombytes("RGB", image.size, rng.bytes(3 * image.width * image.height))
    grey = noise.point(_grain_table(rng.uniform(*grain)))
    return np.asarray(ImageChops.add(image, grey, 1, -_GREY)).copy()


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
def _vignette(side_px: int, strength: int) -> Image.Image:
    """Gains of up to 255 that fall with the cube of the distance from the middle."""
    steps = np.linspace(-1, 1, side_px, dtype=np.float32)
    away = ((steps[None] ** 2 + steps[:, None] ** 2) / 2) ** np.float32(1.5)
    gain = 255 * (1 - (0.07 + 0.035 * strength) * away)
    return Image.fromarray(np.repeat(gain.astype(np.uint8)[..., None], 3, axis=2))


_GREY = 64


def _grain_table(deviation: float) -> list[int]:
    """Random bytes to the centre grey plus triangular noise of a given standard deviation in grey levels."""
    share = (np.arange(256) + 0.5) / 256
    triangular = np.where(share < 0.5, np.sqrt(2 * share) - 1, 1 - np.sqrt(2 - 2 * share))
    table: list[int] = np.round(_GREY + deviation * np.sqrt(6.0) * triangular).astype(int).tolist()
    return table * 3
