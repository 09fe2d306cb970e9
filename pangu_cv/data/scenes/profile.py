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
EMPTY, SHELL, METAL, FRACTURE = 0, 1, 2, 3

_RASTER_PX = 170
_LOWEST, _HIGHEST = -0.72, 0.62
# Empty rows above and below the raster and columns beyond it: no ray leaves them, so none needs a check.
_PAD_ROWS, _PAD_COLUMNS = 130, 120
_PITCH = _RASTER_PX + _PAD_COLUMNS
# No outline reaches further from the axis.
_WIDEST = 0.88

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
    """A profile as rasters over (z, rho), padded and flat: material, outward normal (rho, z), openness (0 to 1)."""

    part_R: NDArray[np.uint8]
    normal_R2: Floats
    open_R: Floats


@dataclass(frozen=True, slots=True)
class Relief:
    """What a viewer sees of a unit: the pixels it covers, and there its material, normal, openness to light and radius.

    Normals are (x, y, towards the viewer); ``step_P`` tells how many steps in the ray met the unit.
    """

    where_HW: NDArray[np.bool_]
    step_P: NDArray[np.uint8]
    part_P: NDArray[np.uint8]
    normal_3P: Floats
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
    opened = np.clip(1.65 - 1.3 * enclosed, 0.25, 1.0).astype(np.float32)
    return Solid(
        _padded(part_array).ravel(), _padded(normal.astype(np.float32)).reshape(-1, 2), _padded(opened).ravel()
    )


def _padded(raster: NDArray[Any]) -> NDArray[Any]:
    rest = [(0, 0)] * (raster.ndim - 2)
    return np.pad(raster, [(_PAD_ROWS, _PAD_ROWS), (0, _PAD_COLUMNS), *rest])


def _mirrored(filled: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.concatenate([filled[:, ::-1], filled], axis=1).astype(np.uint8) * np.uint8(255)


def _blurred(image: NDArray[np.uint8], radius_px: float) -> Floats:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius_px)), np.float32) / 255


@lru_cache(maxsize=256)
def relief(shape: Shape, tilt_deg: int, *, bare: bool = False) -> Relief:
    """A whole or bare unit; the tilt, positive when its top faces the viewer, is a multiple of ``TILT_STEP_DEG``."""
    body, sight = solid(shape, bare=bare), _sight(tilt_deg)
    step, part = (np.concatenate([half[:, ::-1], half], axis=1) for half in _march(body, sight))
    where = part > EMPTY
    return _relief(body, sight, where, step[where], part[where])


def chipped_relief(shape: Shape, tilt_deg: int, chip: Chip) -> Relief:
    """A unit with a piece broken out, fracture faces included: only rays that met the missing piece go on."""
    body, sight, whole = solid(shape), _sight(tilt_deg), relief(shape, tilt_deg)
    x, y = sight.cross(whole.where_HW)
    step, part = whole.step_P.copy(), whole.part_P.copy()
    _bite(chip, part, x, sight.q(step, y), whole.rho_P)
    through = np.flatnonzero(part == EMPTY)
    step[through], part[through] = _march_on(body, sight, chip, x[through], y[through])
    met, where = part > EMPTY, whole.where_HW.copy()
    where[where] = met
    return _relief(body, sight, where, step[met], part[met])


@dataclass(frozen=True, slots=True)
class _Sight:
    """Parallel rays at a tilted unit: where they cross the sprite along x and y, and their steps from the viewer on."""

    ticks: Floats
    steps: Floats
    cos: np.float32
    sin: np.float32

    def cross(self, where_HW: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """The x and y of some of the sprite's pixels."""
        rows, columns = np.nonzero(where_HW)
        return self.ticks[columns], -self.ticks[rows]

    def z(self, step: NDArray[Any] | int, y: Floats) -> Floats:
        """The height along the unit's axis after some steps."""
        return np.asarray(y * self.cos + self.steps[step] * self.sin)

    def q(self, step: NDArray[Any] | int, y: Floats) -> Floats:
        """The distance in front of the axis after some steps."""
        return np.asarray(self.steps[step] * self.cos - y * self.sin)


def _sight(tilt_deg: int) -> _Sight:
    count = round(HALF_EXTENT * UNIT_PX)
    ticks = ((np.arange(-count, count) + 0.5) / UNIT_PX).astype(np.float32)
    tilt = np.radians(tilt_deg)
    return _Sight(
        ticks, np.linspace(0.94, -0.94, 72, dtype=np.float32), np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
    )


def _march(body: Solid, sight: _Sight) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The step at which each ray meets the right half of the unit, and the material there; the left half mirrors it."""
    x, y = sight.ticks[len(sight.ticks) // 2 :], -sight.ticks
    step, part = np.zeros((2, len(y), len(x)), np.uint8)
    x = x[x < _WIDEST]
    # From far to near, for what comes last covers.
    for number in reversed(range(len(sight.steps))):
        z, q = sight.z(number, y)[:, None], sight.q(number, y)[:, None]
        rows = np.flatnonzero((z > _LOWEST) & (z < _HIGHEST) & (np.abs(q) < _WIDEST))
        if not len(rows):
            continue
        inside = (slice(rows[0], rows[-1] + 1), slice(len(x)))
        z, q = z[inside[0]], q[inside[0]]
        seen = body.part_R.take(_places(z, np.sqrt(x * x + q * q)))
        met = seen > EMPTY
        np.copyto(part[inside], seen, where=met)
        np.copyto(step[inside], np.uint8(number), where=met)
    return step, part


def _march_on(
    body: Solid, sight: _Sight, chip: Chip, x_P: Floats, y_P: Floats
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The same for single rays at a unit that lacks a piece."""
    numbers = np.arange(len(sight.steps))[:, None]
    q = sight.q(numbers, y_P)
    rho = np.sqrt(x_P * x_P + q * q)
    part = body.part_R.take(_places(sight.z(numbers, y_P), rho))
    _bite(chip, part, np.broadcast_to(x_P, q.shape), q, rho)
    step = (part > EMPTY).argmax(axis=0)
    return step.astype(np.uint8), np.take_along_axis(part, step[None], 0)[0]


def _bite(chip: Chip, part: NDArray[np.uint8], x: Floats, q: Floats, rho: Floats) -> None:
    """Take the chip out of the shell, in place; what lies just beneath it becomes a fracture face."""
    shell = np.nonzero(part == SHELL)
    turn = (np.arctan2(x[shell], q[shell]) / np.float32(2 * np.pi) + np.float32(0.5)) * len(chip.rho_A)
    beyond = rho[shell] - chip.rho_A[turn.astype(np.int32) % len(chip.rho_A)]
    part[shell] = np.where(beyond > 0, EMPTY, np.where(beyond > -0.06, FRACTURE, SHELL))


def _places(z: Floats, rho: Floats) -> NDArray[np.intp]:
    """Where in a solid's flat rasters a height and a radius lie."""
    row = (np.float32(_HIGHEST * _RASTER_PX + _PAD_ROWS) - z * _RASTER_PX).astype(np.intp)
    return np.asarray(row * _PITCH + (rho * _RASTER_PX).astype(np.intp))


def _relief(
    body: Solid, sight: _Sight, where_HW: NDArray[np.bool_], step_P: NDArray[np.uint8], part_P: NDArray[np.uint8]
) -> Relief:
    x, y = sight.cross(where_HW)
    q = sight.q(step_P, y)
    rho = np.sqrt(x * x + q * q)
    place, fresh = _places(sight.z(step_P, y), rho), part_P == FRACTURE
    outward = np.where(fresh, np.float32(1), body.normal_R2[place, 0]) / np.maximum(rho, np.float32(1e-3))
    upward = np.where(fresh, np.float32(0), body.normal_R2[place, 1])
    level = outward * q
    normal = np.stack([outward * x, upward * sight.cos - level * sight.sin, upward * sight.sin + level * sight.cos])
    return Relief(where_HW, step_P, part_P, normal, body.open_R[place], rho)
