"""Tileable fractal noise, made by enlarging small random grids."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.floating[Any]]


TILE_PX = 256
_POOL = 8


def pick_tile(rng: np.random.Generator, *, rough: bool = False) -> Floats:
    """One of a few prepared tiles, mirrored and shifted: what costs most in a scene is made once."""
    tile = _pooled(int(rng.integers(_POOL)), rough)
    shift = rng.integers(0, TILE_PX, 2)
    return np.asarray(np.roll(tile.T if rng.random() < 0.5 else tile, (int(shift[0]), int(shift[1])), axis=(0, 1)))


@lru_cache(maxsize=2 * _POOL)
def _pooled(number: int, rough: bool) -> Floats:
    return _fractal(np.random.default_rng([9, number]), fading=0.78 if rough else 0.55)


def _fractal(rng: np.random.Generator, *, fading: float) -> Floats:
    """Noise over [0, 1], float32[TILE_PX, TILE_PX], that repeats seamlessly; octaves weaken by ``fading``."""
    total = np.zeros((TILE_PX, TILE_PX), np.float32)
    for octave in range(6):
        cells = 4 << octave
        grid = np.pad(rng.random((cells, cells), np.float32), 2, mode="wrap")
        box = (2.0, 2.0, cells + 2.0, cells + 2.0)
        layer = Image.fromarray(grid).resize((TILE_PX, TILE_PX), Image.Resampling.BICUBIC, box=box)
        total += (np.asarray(layer) - 0.5) * fading**octave
    return np.asarray(np.clip(0.5 + 0.165 * total / total.std(), 0.0, 1.0), np.float32)


def sample(tile: Floats, u: Floats, v: Floats) -> Floats:
    """The tile at coordinates given in periods, nearest texel; any shape."""
    size = len(tile)
    place = (v * size).astype(np.intp) & (size - 1)
    place *= size
    place += (u * size).astype(np.intp) & (size - 1)
    return np.asarray(tile.take(place))


def sample_smooth(tile: Floats, u: Floats, v: Floats) -> Floats:
    """The tile at coordinates given in periods, bilinear; for patterns wider than a pixel."""
    size = len(tile)
    # With a repeated column and row the four neighbours always lie at the same distances from each other.
    flat, pitch = np.pad(tile, ((0, 1), (0, 1)), mode="wrap").ravel(), size + 1
    x, y = u * size, v * size
    left, top = np.floor(x), np.floor(y)
    x -= left
    y -= top
    place = top.astype(np.intp) & (size - 1)
    place *= pitch
    place += left.astype(np.intp) & (size - 1)
    upper, lower = (_between(flat[row:].take(place), flat[row + 1 :].take(place), x) for row in (0, pitch))
    return _between(upper, lower, y)


def _between(low: Floats, high: Floats, share: Floats) -> Floats:
    high -= low
    high *= share
    high += low
    return high


def fractal_line(rng: np.random.Generator, *, length: int, coarsest: int = 4, octaves: int = 6) -> Floats:
    """One-dimensional noise in about [-1, 1], float32[length], seamless at its ends."""
    total = np.zeros(length)
    where = np.arange(length) / length
    for octave in range(octaves):
        cells = coarsest << octave
        knots = rng.uniform(-1, 1, cells)
        total += np.interp(where * cells, np.arange(cells + 1), np.append(knots, knots[0])) * 0.5**octave
    return total.astype(np.float32)


def smoothstep(low: float, high: float, values: Floats) -> Floats:
    """The cubic ramp from 0 at ``low`` to 1 at ``high``."""
    t = np.clip((values - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


def column(colour_3: Floats) -> Floats:
    """A colour as float32[3, 1]: pictures are painted channel by channel, which is far quicker than pixel by pixel."""
    return np.asarray(colour_3, np.float32).reshape(3, 1)
