"""A bird nest: some hundred twigs over a dark heap."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from pangu_cv.data.scenes.canvas import Canvas, to_colour, to_colours
from pangu_cv.data.scenes.light import Light
from pangu_cv.data.scenes.noise import Floats

_TWIGS = np.array([(0.36, 0.27, 0.18), (0.46, 0.36, 0.25), (0.29, 0.22, 0.16), (0.56, 0.46, 0.33), (0.42, 0.38, 0.31)])


def draw_nest(rng: np.random.Generator, at_2: Floats, radius_px: float, light: Light) -> Callable[[Canvas], None]:
    """A nest that rests on a canvas point, with a half width of ``radius_px``."""
    half = int(radius_px * 1.5)
    sprite = Image.new("RGBA", (2 * half, 2 * half))
    draw = ImageDraw.Draw(sprite)
    base = half + 0.25 * radius_px
    bright = light.sky + 0.5 * light.sun
    draw.chord(
        [half - 0.8 * radius_px, base - 0.62 * radius_px, half + 0.8 * radius_px, base + 0.45 * radius_px], 0, 360,
        (*to_colour(np.array((0.17, 0.13, 0.09)) * bright), 255),
    )  # fmt: skip
    twigs = _twigs(rng, radius_px)
    bends = rng.normal(0, 0.04 * radius_px, (len(twigs), 2))
    colours = to_colours(np.array([_TWIGS[tone] * (0.55 + 0.65 * height) for *_, tone, height in twigs]) * bright)
    for (start, end, width, _, _), bend, colour in zip(twigs, bends, colours, strict=True):
        points = [(half + x, base + y) for x, y in (start, (start + end) / 2 + bend, end)]
        draw.line(points, (*colour, 255), width)
    corner = (round(float(at_2[0])) - half, round(float(at_2[1]) - half - 0.25 * radius_px))

    def paint(canvas: Canvas) -> None:
        canvas.paste(sprite, corner, defect=True)

    return paint


def _twigs(rng: np.random.Generator, radius_px: float) -> list[tuple[Floats, Floats, int, int, float]]:
    """Ends, width, tone and height (0 low, 1 at the rim) of each twig, lowest layer first."""
    count = 210
    layer = np.sort(rng.random(count))
    spread = np.sqrt(rng.random(count)) * rng.choice([-1, 1], count)
    height = layer * 0.9 * np.sqrt(np.clip(1.15 - spread**2, 0.05, None)) - 0.28 * (1 - spread**2)
    angle = rng.normal(0, 0.38, count) + 0.5 * spread * rng.random(count)
    length = rng.uniform(0.20, 0.50, count)
    wild = rng.random(count) < 0.09
    angle, length = np.where(wild, rng.uniform(0, np.pi, count), angle), np.where(wild, length * 1.35, length)
    middle = np.stack([0.82 * spread, -height], axis=1) * radius_px
    reach = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (length * radius_px)[:, None]
    width = np.maximum(1, np.round(radius_px * rng.uniform(0.018, 0.05, count))).astype(int)
    tone = rng.integers(len(_TWIGS), size=count)
    return [
        (middle[i] - reach[i], middle[i] + reach[i], int(width[i]), int(tone[i]), float(layer[i])) for i in range(count)
    ]
