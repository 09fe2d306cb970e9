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
    columns = (u * size).astype(np.int32) & (size - 1)
    rows = (v * size).astype(np.int32) & (size - 1)
    return np.asarray(tile[rows, columns])


def sample_smooth(tile: Floats, u: Floats, v: Floats) -> Floats:
    """The tile at coordinates given in periods, bilinear; for patterns wider than a pixel."""
    size = len(tile)
    x, y = u * size, v * size
    left, top = np.floor(x), np.floor(y)
    fx, fy = x - left, y - top
    c0, r0 = left.astype(np.int32) & (size - 1), top.astype(np.int32) & (size - 1)
    c1, r1 = (c0 + 1) & (size - 1), (r0 + 1) & (size - 1)
    upper = tile[r0, c0] * (1 - fx) + tile[r0, c1] * fx
    lower = tile[r1, c0] * (1 - fx) + tile[r1, c1] * fx
    return np.asarray(upper * (1 - fy) + lower * fy)


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
