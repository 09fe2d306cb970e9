"""Things the wind brings to a line: plastic film, cloth, a kite, balloons."""

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from pangu_cv.data.scenes.canvas import Canvas, to_colour
from pangu_cv.data.scenes.light import Light
from pangu_cv.data.scenes.noise import Floats

_FILMS = (
    ("white plastic film", (0.93, 0.94, 0.95), 205),
    ("a torn sheet of blue plastic", (0.25, 0.47, 0.78), 225),
    ("black mulch film", (0.13, 0.13, 0.14), 240),
    ("a strip of green netting", (0.16, 0.42, 0.27), 215),
    ("a red banner", (0.80, 0.15, 0.13), 250),
    ("a plastic bag", (0.90, 0.88, 0.80), 215),
)
_BRIGHT = (
    (0.90, 0.16, 0.16),
    (0.98, 0.78, 0.12),
    (0.14, 0.45, 0.85),
    (0.95, 0.45, 0.12),
    (0.30, 0.66, 0.28),
    (0.85, 0.3, 0.6),
)
_STRING = (225, 222, 214, 255)
_CORD = (118, 108, 96, 255)

Painter = Callable[[Canvas], None]


def draw_thing(rng: np.random.Generator, at_2: Floats, side_px: int, light: Light) -> tuple[str, Painter]:
    """A foreign object caught at a canvas point, and its name with an article where English wants one."""
    sprite = Image.new("RGBA", (round(side_px * 0.62),) * 2)
    bright = np.clip(light.sky + 0.55 * light.sun, 0.25, 1.15)
    which = rng.random()
    if which < 0.60:
        name = _draw_film(rng, sprite, side_px, bright)
    elif which < 0.80:
        name = _draw_kite(rng, sprite, side_px, bright)
    else:
        name = _draw_balloons(rng, sprite, side_px, bright, light)
    corner = (round(float(at_2[0]) - sprite.width / 2), round(float(at_2[1]) - sprite.height / 2))

    def paint(canvas: Canvas) -> None:
        canvas.paste(sprite, corner, defect=True)

    return name, paint


def _draw_film(rng: np.random.Generator, sprite: Image.Image, side_px: int, bright_3: Floats) -> str:
    """A sheet that hangs in folds: lanes of small quadrilaterals, each toned by how it faces the light."""
    name, colour, alpha = _FILMS[int(rng.integers(len(_FILMS)))]
    lanes, rows = 9, 34
    length, width = rng.uniform(0.16, 0.25) * side_px, rng.uniform(0.055, 0.10) * side_px
    t = np.linspace(0.0, 1.0, rows + 1)
    wind, curl = rng.uniform(-0.9, 0.9), rng.uniform(-0.5, 0.5)
    phase, waves = rng.uniform(0, 2 * np.pi, 4), rng.uniform(0.8, 2.0, 4)
    x = length * (wind * t**1.4 + 0.10 * np.sin(2 * np.pi * waves[0] * t + phase[0]) * t)
    y = length * (t - 0.35 * np.abs(wind) * t**2 + 0.05 * curl * np.sin(5 * t))
    half = width * (0.16 + 0.84 * np.minimum(1.0, 2.4 * t)) * (0.8 + 0.3 * np.sin(2 * np.pi * waves[1] * t + phase[1]))
    lane = np.linspace(-1.0, 1.0, lanes + 1)
    fold = 0.14 * width * np.sin(3.4 * lane[None] + 5.0 * waves[2] * t[:, None] + phase[2])
    points_x = x[:, None] + half[:, None] * lane[None] + 0.5 * fold
    points_y = y[:, None] + fold + 0.30 * half[:, None] * lane[None] * curl
    points_y[-1] += rng.uniform(-0.05, 0.04, lanes + 1) * length
    shade = 0.80 + 0.30 * np.cos(3.4 * lane[None] + 5.0 * waves[2] * t[:, None] + phase[2] + 0.8)
    shade += 0.10 * np.cos(9.0 * lane[None] + 3.0 * waves[3] * t[:, None] + phase[3])
    grid = np.stack([points_x, points_y], axis=-1) + np.array(sprite.size) / 2
    _fill_grid(sprite, grid, np.array(colour) * bright_3, shade, alpha)
    return name


def _fill_grid(sprite: Image.Image, grid_RC2: Floats, colour_3: Floats, shade_RC: Floats, alpha: int) -> None:
    draw = ImageDraw.Draw(sprite)
    rows, lanes = shade_RC.shape[0] - 1, shade_RC.shape[1] - 1
    corners = np.stack([grid_RC2[:-1, :-1], grid_RC2[:-1, 1:], grid_RC2[1:, 1:], grid_RC2[1:, :-1]], axis=2)
    quads = corners.reshape(rows * lanes, 8).tolist()
    tones = np.clip(colour_3 * shade_RC[:-1, :-1, None] * 255, 0, 255).astype(np.uint8).reshape(-1, 3).tolist()
    for quad, tone in zip(quads, tones, strict=True):
        draw.polygon(quad, (*tone, alpha))


def _draw_kite(rng: np.random.Generator, sprite: Image.Image, side_px: int, bright_3: Floats) -> str:
    draw, middle = ImageDraw.Draw(sprite), np.array(sprite.size) / 2
    size, lean = rng.uniform(0.055, 0.085) * side_px, rng.uniform(-0.9, 0.9)
    turn = np.array([[np.cos(lean), -np.sin(lean)], [np.sin(lean), np.cos(lean)]])
    squash = rng.uniform(0.6, 1.0)
    corners = np.array([[0, -1.0], [0.72 * squash, -0.15], [0, 1.25], [-0.72 * squash, -0.15]]) * size
    body = middle + np.array([0, 0.75 * size]) + corners @ turn.T
    heart = middle + np.array([0, 0.75 * size]) + np.array([0, -0.15 * size]) @ turn.T
    first, second = rng.choice(len(_BRIGHT), 2, replace=False)
    for i in range(4):
        colour = np.array(_BRIGHT[first if i % 2 else second]) * bright_3 * (1.0, 0.86, 0.78, 0.93)[i]
        draw.polygon([tuple(p) for p in (body[i], body[(i + 1) % 4], heart)], (*to_colour(colour), 255))
    spar = max(2, round(0.03 * size))
    draw.line([tuple(body[0]), tuple(body[2])], (70, 60, 50, 255), spar)
    draw.line([tuple(body[1]), tuple(heart), tuple(body[3])], (70, 60, 50, 255), spar)
    _draw_tail(rng, draw, body[2], size, np.array(_BRIGHT[first]) * bright_3)
    draw.line([tuple(middle), tuple(heart)], _STRING, spar)
    return "a kite"


def _draw_tail(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, start_2: Floats, size: float, colour_3: Floats
) -> None:
    t = np.linspace(0, 1, 24)
    swing, drift = rng.uniform(0.2, 0.4) * size, rng.uniform(-1.0, 1.0) * size
    path = start_2 + np.stack([drift * t + swing * np.sin(9 * t), 1.9 * size * t], axis=1)
    draw.line([tuple(p) for p in path], _CORD, max(2, round(0.025 * size)))
    for at in path[5::5]:
        wing, slope = 0.17 * size, rng.uniform(-0.5, 0.5)
        for sign in (-1, 1):
            tip = at + sign * wing * np.array((1.0, slope))
            draw.polygon(
                [tuple(at), (tip[0], tip[1] - wing / 2), (tip[0], tip[1] + wing / 2)], (*to_colour(colour_3), 255)
            )


def _draw_balloons(rng: np.random.Generator, sprite: Image.Image, side_px: int, bright_3: Floats, light: Light) -> str:
    draw, middle = ImageDraw.Draw(sprite), np.array(sprite.size) / 2
    count = int(rng.integers(1, 4))
    for i, tone in enumerate(rng.choice(len(_BRIGHT), count, replace=False)):
        radius = rng.uniform(0.036, 0.052) * side_px
        fan = (i - (count - 1) / 2) * rng.uniform(0.9, 1.25)
        centre = middle + np.array([fan * radius * 1.3, -radius * rng.uniform(1.7, 2.6)])
        draw.line([tuple(middle), tuple(centre - (0, -1.2 * radius))], _STRING, max(2, side_px // 400))
        ball = _balloon(radius, np.array(_BRIGHT[tone]) * bright_3, light)
        sprite.alpha_composite(ball, (round(float(centre[0] - radius)), round(float(centre[1] - 1.2 * radius))))
    knot = 0.012 * side_px
    draw.line([tuple(middle), tuple(middle - (-knot, -3 * knot))], _STRING, max(2, side_px // 400))
    return "a balloon" if count == 1 else "balloons"


def _balloon(radius: float, colour_3: Floats, light: Light) -> Image.Image:
    width, height = round(2 * radius), round(2.4 * radius)
    x = (np.arange(width) + 0.5) / radius - 1.0
    y = 1.0 - (np.arange(height) + 0.5) / (1.15 * radius)
    taper = np.where(y < 0, 1.0 + 0.35 * y**2, 1.0)
    nx, ny = np.broadcast_arrays(x[None] * taper[:, None], y[:, None])
    left: Any = 1.0 - nx**2 - ny**2
    normal = np.stack([nx, ny, np.sqrt(np.clip(left, 0, None))], axis=-1)
    facing = np.clip(normal @ light.sun_3, 0, 1)[..., None]
    spark = np.clip(normal @ np.array((-0.35, 0.5, 0.79)), 0, 1)[..., None] ** 36
    pixels = np.clip(colour_3 * (0.62 + 0.30 * facing + 0.14 * normal[..., 1:2]) + 0.55 * spark, 0, 1)
    alpha = np.clip(left * radius, 0, 1)[..., None]
    return Image.fromarray((np.concatenate([pixels, alpha], axis=-1) * 255).astype(np.uint8), "RGBA")
