"""Insulator strings in the scene: units placed along an axis and pasted from far to near, damaged ones included."""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from PIL import Image

from pangu_cv.data.scenes.camera import Camera
from pangu_cv.data.scenes.canvas import Canvas
from pangu_cv.data.scenes.glaze import Glaze, glaze_sprite
from pangu_cv.data.scenes.light import Light
from pangu_cv.data.scenes.noise import Floats, pick_tile, smoothstep
from pangu_cv.data.scenes.profile import TILT_STEP_DEG, UNIT_PX, Chip, chipped_relief, relief

DamageKind = Literal["missing_disc", "broken_disc", "burn"]


@dataclass(frozen=True, slots=True)
class InsulatorString:
    """Units hang from ``start`` (the tower's side) to ``end``; positions in metres, ``grime`` 0 to 1."""

    start_3: Floats
    end_3: Floats
    units: int
    glaze: Glaze
    grime: float

    @property
    def spacing_m(self) -> float:
        """Length of one unit."""
        return float(np.linalg.norm(self.end_3 - self.start_3)) / self.units

    def centres(self) -> Floats:
        """The middle of every unit, float[units, 3]."""
        share = (np.arange(self.units) + 0.5) / self.units
        return np.asarray(self.start_3 + (self.end_3 - self.start_3) * share[:, None])


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with one string: which units, and the random state that shapes it."""

    kind: DamageKind
    units: tuple[int, ...]
    rng: np.random.Generator = field(repr=False)


@dataclass(frozen=True, slots=True)
class View:
    """A string as the camera sees it: unit centres and sizes in canvas pixels, its turn and its tilt."""

    xy_N2: Floats
    unit_px_N: Floats
    depth_N: Floats
    cos: float
    sin: float
    tilt_deg: int

    @property
    def radius_px(self) -> float:
        """The radius of a disc, about."""
        return float(self.unit_px_N.mean()) * 0.87

    @property
    def box_xyxy(self) -> tuple[float, float, float, float]:
        """The box of all discs in canvas pixels, not clipped."""
        lean, squash = abs(self.sin), math.sin(math.radians(abs(self.tilt_deg)))
        wide = math.hypot(1.0 - lean, lean * max(squash, 0.45)) * self.unit_px_N * 0.87
        high = math.hypot(lean, (1.0 - lean) * max(squash, 0.45)) * self.unit_px_N * 0.87
        x, y = self.xy_N2[:, 0], self.xy_N2[:, 1]
        return (
            float((x - wide).min()),
            float((y - high).min()),
            float((x + wide).max()),
            float((y + high).max()),
        )


def view_of(string: InsulatorString, camera: Camera, *, side_px: int) -> View:
    """How the camera sees a string; every unit must lie in front of it."""
    seen = camera.project(string.centres())
    depth = np.maximum(seen.depth_N, 0.5)
    axis = camera.direction((string.start_3 - string.end_3) / np.linalg.norm(string.start_3 - string.end_3))
    sight = camera.axes_33 @ (string.centres().mean(axis=0) - camera.position_3)
    sight /= np.linalg.norm(sight)
    tilt = math.degrees(math.asin(float(np.clip(-(axis @ sight), -1.0, 1.0))))
    ends = seen.xy_N2[0] - seen.xy_N2[-1]
    length = max(float(np.hypot(*ends)), 1e-6)
    return View(
        xy_N2=seen.xy_N2 * side_px,
        unit_px_N=string.spacing_m * camera.focal * side_px / depth,
        depth_N=depth,
        cos=float(-ends[1] / length),
        sin=float(ends[0] / length),
        tilt_deg=round(tilt / TILT_STEP_DEG) * TILT_STEP_DEG,
    )


def draw_string(canvas: Canvas, string: InsulatorString, view: View, light: Light, damage: Damage | None) -> None:
    """Paste every unit, far ones first, and put damage into the canvas's mask."""
    sprites = _Sprites(string, view, light)
    order = np.argsort(-view.depth_N, kind="stable").tolist()
    soiled = Image.new("L", canvas.image.size) if damage and damage.kind == "burn" else None
    for unit in order:
        hurt = damage if damage and unit in damage.units else None
        if hurt and hurt.kind == "missing_disc":
            _paste_gap(canvas, sprites, unit)
        elif hurt and hurt.kind == "broken_disc":
            _paste_broken(canvas, sprites, unit, hurt.rng)
        else:
            sprite, corner = sprites.placed(unit, sprites.whole)
            canvas.paste(sprite, corner)
            if soiled:
                soiled.paste(255 if hurt else 0, corner, sprite.getchannel("A"))
    if damage and soiled:
        _burn(canvas, soiled, view, damage)


class _Sprites:
    """The lit unit of one string, and its enlargements by size."""

    def __init__(self, string: InsulatorString, view: View, light: Light) -> None:
        self.string, self.view = string, view
        self.light = light.turned(view.cos, -view.sin)
        self.shape = string.glaze.shape
        self.whole = self._lit(None, bare=False)
        self._reach = _reach(self.whole)
        self._turned: dict[tuple[int, int], Image.Image] = {}

    def _lit(self, chip: Chip | None, *, bare: bool) -> Image.Image:
        tilt = self.view.tilt_deg
        shape = chipped_relief(self.shape, tilt, chip) if chip else relief(self.shape, tilt, bare=bare)
        return glaze_sprite(shape, _soiled(self.string), self.light)

    def bare(self) -> Image.Image:
        return self._lit(None, bare=True)

    def chipped(self, chip: Chip) -> Image.Image:
        return self._lit(chip, bare=False)

    def placed(self, unit: int, sprite: Image.Image) -> tuple[Image.Image, tuple[int, int]]:
        """A sprite turned and scaled for a unit, and its upper left corner on the canvas."""
        size = float(self.view.unit_px_N[unit])
        # Steps of six per cent: neighbours share one enlargement.
        step = round(math.log(size) / 0.06)
        key = (id(sprite), step)
        if key not in self._turned:
            self._turned[key] = _turn(
                sprite, self._reach, math.exp(step * 0.06) / UNIT_PX, self.view.cos, self.view.sin
            )
        image = self._turned[key]
        x, y = self.view.xy_N2[unit]
        return image, (round(float(x) - image.width / 2), round(float(y) - image.height / 2))


def _soiled(string: InsulatorString) -> Glaze:
    glaze, dust = string.glaze, np.array((0.46, 0.42, 0.36))
    shell = np.array(glaze.shell) + (dust - np.array(glaze.shell)) * 0.35 * string.grime
    mixed = (float(shell[0]), float(shell[1]), float(shell[2]))
    return Glaze(
        glaze.shape, glaze.name, mixed, glaze.metal, glaze.fracture,
        glaze.gloss * (1 - 0.5 * string.grime), glaze.clear * (1 - 0.4 * string.grime),
    )  # fmt: skip


def _reach(sprite: Image.Image) -> tuple[float, float]:
    """How far from its middle a sprite shows anything, across and along."""
    left, top, right, bottom = sprite.getbbox() or (0, 0, *sprite.size)
    middle_x, middle_y = sprite.width / 2, sprite.height / 2
    return max(middle_x - left, right - middle_x) + 1, max(middle_y - top, bottom - middle_y) + 1


def _turn(sprite: Image.Image, reach: tuple[float, float], scale: float, cos: float, sin: float) -> Image.Image:
    """Enlarge and turn about the middle, and keep only what can show: a disc is much wider than high."""
    half, (across, along) = 0.5 * sprite.width, reach
    width = 2 * math.ceil((across * abs(cos) + along * abs(sin)) * scale)
    height = 2 * math.ceil((across * abs(sin) + along * abs(cos)) * scale)
    a, b, x, y = cos / scale, sin / scale, width / 2, height / 2
    matrix = (a, b, half - a * x - b * y, -b, a, half + b * x - a * y)
    return sprite.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def _paste_gap(canvas: Canvas, sprites: _Sprites, unit: int) -> None:
    whole, corner = sprites.placed(unit, sprites.whole)
    bare, bare_corner = sprites.placed(unit, sprites.bare())
    canvas.paste(bare, bare_corner)
    canvas.mark(_without(whole, bare), corner)


def _paste_broken(canvas: Canvas, sprites: _Sprites, unit: int, rng: np.random.Generator) -> None:
    whole, corner = sprites.placed(unit, sprites.whole)
    chipped, chipped_corner = sprites.placed(unit, sprites.chipped(_draw_chip(rng, sprites)))
    canvas.paste(chipped, chipped_corner)
    difference = np.abs(np.asarray(whole, np.int16) - np.asarray(chipped, np.int16)).max(axis=-1)
    canvas.mark(Image.fromarray((difference > 24).astype(np.uint8) * np.uint8(255)), corner)


def _without(whole: Image.Image, part: Image.Image) -> Image.Image:
    left = np.asarray(whole.getchannel("A")).astype(np.int16) - np.asarray(part.getchannel("A"))
    return Image.fromarray(np.clip(left, 0, 255).astype(np.uint8))


def _draw_chip(rng: np.random.Generator, sprites: _Sprites) -> Chip:
    """A jagged bite, on the side or the front, where the camera sees it."""
    count = 180
    angles = np.linspace(-np.pi, np.pi, count, endpoint=False)
    outer = 0.66 if sprites.shape == "composite" else 0.90
    # Discs seen edge-on show a bite only where it cuts the outline.
    low, high = (1.15, 1.65) if abs(sprites.view.tilt_deg) < 18 else (0.5, 1.4)
    middle, half = rng.uniform(low, high) * rng.choice([-1.0, 1.0]), rng.uniform(1.15, 1.5)
    depth = rng.uniform(0.60, 0.74) * outer
    if sprites.shape == "composite":
        half += 0.6  # thin sheds tear off along most of their rim
    jagged = np.interp(angles, np.linspace(-np.pi, np.pi, 40), rng.uniform(-0.07, 0.07, 40))
    away = np.abs(np.mod(angles - middle + np.pi, 2 * np.pi) - np.pi)
    bitten = np.clip(away / half + jagged, 0.0, None) < 1.0
    rho = np.where(bitten, outer - depth * (1.0 - 0.35 * (away / half) ** 2) + jagged, 2.0)
    return Chip(np.maximum(rho, 0.24 * outer).astype(np.float32))


def _burn(canvas: Canvas, soiled: Image.Image, view: View, damage: Damage) -> None:
    """Soot along the flashover's path, with bright spots where the arc stood."""
    rng, reach = damage.rng, view.radius_px * 1.15
    xy = view.xy_N2[list(damage.units)]
    left, top = (np.maximum(xy.min(axis=0) - reach, 0)).astype(int).tolist()
    right, bottom = (np.minimum(xy.max(axis=0) + reach, canvas.side_px)).astype(int).tolist()
    if right - left < 4 or bottom - top < 4:
        return
    tile = pick_tile(rng)[:128, :128]
    noise = np.asarray(Image.fromarray(tile).resize((right - left, bottom - top), Image.Resampling.BICUBIC))
    covered = np.asarray(soiled.crop((left, top, right, bottom)), np.float32) / 255
    offset = view.radius_px * rng.uniform(-0.45, 0.45)
    x, y = np.arange(left, right, dtype=np.float32), np.arange(top, bottom, dtype=np.float32)[:, None]
    middle = (xy.mean(axis=0) + offset * np.array([view.cos, view.sin])).astype(np.float32)
    across = ((x - middle[0]) * view.cos + (y - middle[1]) * view.sin) / (0.85 * view.radius_px)
    length = 0.5 * float(np.hypot(*(xy[0] - xy[-1]))) + 0.55 * view.radius_px
    along = (-(x - middle[0]) * view.sin + (y - middle[1]) * view.cos) / length
    field_HW = 1.15 - np.sqrt(across**2 + along**2) + 1.5 * (noise - 0.5)
    soot = smoothstep(0.05, 0.62, field_HW) * covered
    ash = smoothstep(0.74, 0.90, noise) * smoothstep(0.4, 0.8, field_HW) * covered
    _stain(canvas, soot, ash, (left, top))


def _stain(canvas: Canvas, soot_HW: Floats, ash_HW: Floats, corner_xy: tuple[int, int]) -> None:
    height, width = soot_HW.shape
    box = (*corner_xy, corner_xy[0] + width, corner_xy[1] + height)
    under = np.asarray(canvas.image.crop(box), np.float32) / 255
    black, white = np.array(((0.066, 0.051, 0.040), (0.78, 0.74, 0.68)), np.float32)
    under *= (1 - 0.90 * soot_HW)[..., None]
    under += soot_HW[..., None] * black
    under += (white - under) * (0.45 * ash_HW)[..., None]
    canvas.image.paste(Image.fromarray((np.clip(under, 0, 1) * 255).astype(np.uint8)), corner_xy)
    canvas.mark(Image.fromarray((np.clip(soot_HW * 1.1, 0, 1) * 255).astype(np.uint8)), corner_xy)
