"""The relief of one insulator unit seen at an angle: surface normals of a solid of revolution, found by marching rays.

One unit is one disc (or one pair of sheds) with its share of the core; lengths are in spacings of the string. The
profile has a radius rho and a height z towards the earthed end; the sprite x right, y up and depth towards the viewer.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pangu_cv.data.scenes.noise import Floats

Shape = Literal["glass", "porcelain", "composite"]

UNIT_PX = 74
HALF_EXTENT = 0.96
TILT_STEP_DEG = 4
_Sight = tuple[NDArray[np.uint8], Floats, Floats, Floats]
EMPTY, SHELL, METAL, FRACTURE = 0, 1, 2, 3

_RASTER_PX = 170
_LOWEST, _HIGHEST = -0.72, 0.62

_Outline = list[tuple[float, float]]
_CAP: _Outline = [
    (0, 0.48),
    (0.12, 0.48),
    (0.16, 0.44),
    (0.17, 0.34),
    (0.235, 0.26),
    (0.27, 0.10),
    (0.27, 0.05),
    (0, 0.05),
]
_PIN: _Outline = [(0, 0.1), (0.06, 0.1), (0.06, -0.66), (0, -0.66)]
_GLASS: _Outline = [
    (0, 0.14), (0.22, 0.14), (0.36, 0.10), (0.55, 0.01), (0.72, -0.10), (0.83, -0.20), (0.87, -0.27), (0.85, -0.31),
    (0.81, -0.30), (0.77, -0.22), (0.71, -0.19), (0.70, -0.36), (0.655, -0.36), (0.64, -0.15), (0.53, -0.10),
    (0.52, -0.34), (0.475, -0.34), (0.46, -0.07), (0.35, -0.03), (0.34, -0.31), (0.295, -0.31), (0.27, -0.02),
    (0, -0.02),
]  # fmt: skip
_PORCELAIN: _Outline = [
    (0, 0.20), (0.24, 0.20), (0.34, 0.17), (0.52, 0.10), (0.70, -0.02), (0.81, -0.13), (0.86, -0.23), (0.85, -0.31),
    (0.80, -0.33), (0.74, -0.28), (0.66, -0.16), (0.61, -0.16), (0.58, -0.31), (0.52, -0.31), (0.49, -0.12),
    (0.43, -0.11), (0.40, -0.28), (0.34, -0.28), (0.30, -0.08), (0, -0.08),
]  # fmt: skip
_SHEDS: _Outline = [
    (0, 0.50), (0.13, 0.50), (0.13, 0.27), (0.30, 0.20), (0.56, 0.06), (0.63, 0.00), (0.60, -0.025), (0.30, 0.07),
    (0.13, 0.12), (0.13, -0.24), (0.26, -0.30), (0.40, -0.37), (0.45, -0.42), (0.42, -0.44), (0.24, -0.39),
    (0.13, -0.36), (0.13, -0.52), (0, -0.52),
]  # fmt: skip
_ROD: _Outline = [(0, 0.52), (0.11, 0.52), (0.11, -0.52), (0, -0.52)]


@dataclass(frozen=True, slots=True)
class Solid:
    """A profile as rasters over (z, rho): material, outward normal (rho, z) and how enclosed a place is (0 to 1)."""

    part: NDArray[np.uint8]
    normal: Floats
    open: Floats


@dataclass(frozen=True, slots=True)
class Relief:
    """What a viewer sees of a unit: the pixels it covers, and there its material, normal, openness to light and radius.

    Normals are (x, y, towards the viewer).
    """

    where_HW: NDArray[np.bool_]
    part_P: NDArray[np.uint8]
    normal_P3: Floats
    open_P: Floats
    rho_P: Floats


@dataclass(frozen=True, slots=True)
class Chip:
    """A piece broken out of the shell: outside radius ``rho_A`` at each of equally spaced angles round the axis."""

    rho_A: Floats


@lru_cache(maxsize=8)
def solid(shape: Shape, *, bare: bool = False) -> Solid:
    """The rasters of a shape; ``bare`` leaves what remains when the shell or the sheds are gone."""
    layers: list[tuple[_Outline, int]] = []
    if shape == "composite":
        layers.append((_ROD, METAL) if bare else (_SHEDS, SHELL))
    else:
        shell = _GLASS if shape == "glass" else _PORCELAIN
        layers += [(_PIN, METAL), *([] if bare else [(shell, SHELL)]), (_CAP, METAL)]
    height, width = round((_HIGHEST - _LOWEST) * _RASTER_PX), _RASTER_PX
    part = Image.new("L", (width, height))
    for outline, material in layers:
        points = [(rho * _RASTER_PX, (_HIGHEST - z) * _RASTER_PX) for rho, z in outline]
        ImageDraw.Draw(part).polygon(points, fill=material)
    part_array = np.asarray(part).copy()
    filled = _mirrored(part_array > 0)
    slope_z, slope_rho = np.gradient(_blurred(filled, 2.0)[:, width:])
    normal = np.stack([-slope_rho, slope_z], axis=-1)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
    enclosed = _blurred(filled, 13.0)[:, width:]
    return Solid(part_array, normal.astype(np.float32), np.clip(1.65 - 1.3 * enclosed, 0.25, 1.0).astype(np.float32))


def _mirrored(filled: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.concatenate([filled[:, ::-1], filled], axis=1).astype(np.uint8) * np.uint8(255)


def _blurred(image: NDArray[np.uint8], radius_px: float) -> Floats:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius_px)), np.float32) / 255


@lru_cache(maxsize=256)
def relief(shape: Shape, tilt_deg: int, *, bare: bool = False) -> Relief:
    """A whole or bare unit; the tilt, positive when its top faces the viewer, is a multiple of ``TILT_STEP_DEG``."""
    part, normal, opened, rho = _march(solid(shape, bare=bare), tilt_deg, None)
    flipped = normal[:, ::-1] * np.array([-1, 1, 1], np.float32)
    return _gather(
        np.concatenate([part[:, ::-1], part], axis=1),
        np.concatenate([flipped, normal], axis=1),
        np.concatenate([opened[:, ::-1], opened], axis=1),
        np.concatenate([rho[:, ::-1], rho], axis=1),
    )


def chipped_relief(shape: Shape, tilt_deg: int, chip: Chip) -> Relief:
    """A unit with a piece broken out, fracture faces included."""
    return _gather(*_march(solid(shape), tilt_deg, chip))


def _gather(part_HW: NDArray[np.uint8], normal_HW3: Floats, open_HW: Floats, rho_HW: Floats) -> Relief:
    where = part_HW > 0
    return Relief(where, part_HW[where], normal_HW3[where], open_HW[where], rho_HW[where])


def _march(body: Solid, tilt_deg: int, chip: Chip | None) -> _Sight:
    """Look along parallel rays at the right half of the unit, or at all of it when a chip breaks the symmetry."""
    count = round(HALF_EXTENT * UNIT_PX)
    ticks = ((np.arange(-count, count) + 0.5) / UNIT_PX).astype(np.float32)
    x = ticks[None, None, :] if chip else ticks[None, None, count:]
    y = -ticks[None, :, None]
    s = np.linspace(0.94, -0.94, 72, dtype=np.float32)[:, None, None]
    cos, sin = np.float32(np.cos(np.radians(tilt_deg))), np.float32(np.sin(np.radians(tilt_deg)))
    z, q = y * cos + s * sin, s * cos - y * sin
    rho = np.sqrt(x * x + q * q)
    part = _look_up(body.part, z, rho)
    if chip is not None:
        turn = ((np.arctan2(x, q) / (2 * np.pi) + 0.5) * len(chip.rho_A)).astype(np.int32) % len(chip.rho_A)
        beyond, shell = rho - chip.rho_A[turn], part == SHELL
        part = np.where(shell & (beyond > -0.06), np.where(beyond > 0, EMPTY, FRACTURE), part)
    first = (part > 0).argmax(axis=0)[None]
    rho, part = np.take_along_axis(rho, first, 0)[0], np.take_along_axis(part, first, 0)[0]
    z = np.take_along_axis(np.broadcast_to(z, (len(s), *z.shape[1:])), first, 0)[0]
    q = np.take_along_axis(np.broadcast_to(q, (len(s), *q.shape[1:])), first, 0)[0]
    return _assemble(body, part, rho, z, q, x[0], cos, sin)


def _look_up(raster: NDArray[Any], z: Floats, rho: Floats) -> NDArray[Any]:
    row = ((_HIGHEST - z) * _RASTER_PX).astype(np.int32)
    column = (rho * _RASTER_PX).astype(np.int32)
    inside = (row >= 0) & (row < raster.shape[0]) & (column < raster.shape[1])
    picked = raster[np.clip(row, 0, raster.shape[0] - 1), np.minimum(column, raster.shape[1] - 1)]
    return np.asarray(np.where(inside, picked, 0))


def _assemble(
    body: Solid, part: NDArray[Any], rho: Floats, z: Floats, q: Floats, x: Floats, cos: Any, sin: Any
) -> _Sight:
    row = np.clip(((_HIGHEST - z) * _RASTER_PX).astype(np.int32), 0, body.part.shape[0] - 1)
    column = np.minimum((rho * _RASTER_PX).astype(np.int32), body.part.shape[1] - 1)
    fresh = part == FRACTURE
    outward = np.where(fresh, np.float32(1), body.normal[row, column, 0])
    upward = np.where(fresh, np.float32(0), body.normal[row, column, 1])
    radius = np.maximum(rho, 1e-3)
    normal_q = outward * q / radius
    normal = np.stack([outward * x / radius, upward * cos - normal_q * sin, upward * sin + normal_q * cos], axis=-1)
    return (part.astype(np.uint8), normal.astype(np.float32), body.open[row, column], rho)
