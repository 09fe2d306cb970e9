"""The colour of an insulator: a relief lit by the scene, as a sprite."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pangu_cv.data.scenes.light import Light
from pangu_cv.data.scenes.noise import Floats, column
from pangu_cv.data.scenes.profile import FRACTURE, METAL, SHELL, Relief, Shape

RGB = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Glaze:
    """Surface of a string: colours 0 to 1; ``gloss`` scales highlights, ``clear`` how much light passes through."""

    shape: Shape
    name: str
    shell: RGB
    metal: RGB
    fracture: RGB
    gloss: float
    clear: float


_IRON: RGB = (0.40, 0.40, 0.41)
GLAZES: tuple[Glaze, ...] = (
    Glaze("glass", "glass", (0.42, 0.62, 0.54), _IRON, (0.90, 0.97, 0.94), 1.0, 0.60),
    Glaze("glass", "glass", (0.45, 0.62, 0.68), _IRON, (0.90, 0.96, 0.98), 1.0, 0.65),
    Glaze("porcelain", "brown porcelain", (0.42, 0.22, 0.14), _IRON, (0.93, 0.90, 0.84), 0.8, 0.0),
    Glaze("porcelain", "white porcelain", (0.88, 0.87, 0.83), _IRON, (0.80, 0.74, 0.64), 0.8, 0.0),
    Glaze("porcelain", "grey porcelain", (0.60, 0.63, 0.65), _IRON, (0.94, 0.92, 0.88), 0.8, 0.0),
    Glaze("composite", "red composite", (0.62, 0.25, 0.20), (0.66, 0.63, 0.52), (0.78, 0.50, 0.45), 0.25, 0.05),
    Glaze("composite", "grey composite", (0.55, 0.60, 0.66), (0.66, 0.63, 0.52), (0.70, 0.72, 0.74), 0.25, 0.05),
)


def glaze_sprite(relief: Relief, glaze: Glaze, light: Light) -> Image.Image:
    """The relief as an RGBA image lit by a light given in the sprite's own frame."""
    normal, part, opened = relief.normal_3P, relief.part_P, relief.open_P
    sun, sky, ground = (column(colour) for colour in (light.sun, light.sky, light.ground))
    albedo = _colour_table(glaze)[:, part]
    shell = (part == SHELL).astype(np.float32)
    if glaze.clear > 0.3:
        # The ribs below show through the glass as rings.
        albedo *= 1.0 + 0.16 * shell * np.cos(relief.rho_P * (2 * np.pi / 0.18))
    facing, upward = light.sun_3.astype(np.float32) @ normal, light.up_3.astype(np.float32) @ normal
    direct = np.clip((facing + 0.15) / 1.15, 0.0, 1.0) * (0.4 + 0.6 * opened)
    colour = albedo * ((ground + (sky - ground) * (0.5 + 0.5 * upward)) * opened + sun * direct)
    fresh = part == FRACTURE
    if fresh.any():
        colour[:, fresh] += 0.4 * albedo[:, fresh] * sky
    if glaze.clear > 0:
        through = np.clip(-facing, 0.0, 1.0) * sun + 0.45 * sky
        colour += np.sqrt(albedo) * through * (glaze.clear * shell * (0.30 + 0.6 * (1 - np.abs(normal[2]))))
    colour += _reflections(normal, upward, light, 0.25 + np.float32(glaze.gloss - 0.25) * shell)
    rgba = np.ones((4, len(part)), np.float32)
    rgba[:3] = colour
    if glaze.clear > 0.3:
        rgba[3] -= 0.55 * glaze.clear * shell * np.clip(normal[2], 0.0, 1.0)
    pixels = np.zeros((*relief.where_HW.shape, 4), np.uint8)
    pixels[relief.where_HW] = (np.clip(rgba, 0.0, 1.0, out=rgba) * 255).astype(np.uint8).T
    return Image.fromarray(pixels, "RGBA")


def _colour_table(glaze: Glaze) -> Floats:
    table = np.zeros((3, 4), np.float32)
    table[:, SHELL], table[:, METAL], table[:, FRACTURE] = glaze.shell, glaze.metal, glaze.fracture
    return table


def _reflections(normal_3P: Floats, upward_P: Floats, light: Light, strength_P: Floats) -> Floats:
    """The sun's spark and the sky's sheen at grazing angles, float32[3, P]."""
    halfway = light.sun_3 + np.array((0.0, 0.0, 1.0))
    halfway = (halfway / max(float(np.linalg.norm(halfway)), 1e-6)).astype(np.float32)
    spark = np.square(np.square(np.clip(halfway @ normal_3P, 0.0, 1.0)))
    sharp = np.square(np.square(np.square(spark)))
    grazing = 1.0 - np.clip(normal_3P[2], 0.0, 1.0)
    up = np.clip(upward_P, 0.0, 1.0)
    sheen = (0.10 * up * up + 0.34 * grazing * grazing * grazing * (0.3 + 0.7 * up)) * strength_P
    return np.asarray(((1.1 * sharp + 0.15 * spark) * strength_P) * column(light.sun) + sheen * column(light.sky))
