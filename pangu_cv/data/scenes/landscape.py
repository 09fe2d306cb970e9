"""The land below: fields, woods, snow or water on a plane, hills at the horizon, all fading into the haze."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from pangu_cv.data.scenes.noise import Floats, fractal_line, pick_tile, sample, sample_smooth, smoothstep
from pangu_cv.data.scenes.weather import Weather

LandName = Literal["farmland", "forest", "grassland", "snow", "steppe", "lakeside"]
Season = Literal["spring", "summer", "autumn"]

_FIELDS: dict[Season, list[tuple[float, float, float]]] = {
    "spring": [(0.45, 0.56, 0.25), (0.37, 0.50, 0.22), (0.80, 0.74, 0.24), (0.50, 0.42, 0.30), (0.53, 0.61, 0.34)],
    "summer": [(0.37, 0.47, 0.22), (0.46, 0.52, 0.26), (0.74, 0.65, 0.36), (0.31, 0.42, 0.20), (0.60, 0.58, 0.33)],
    "autumn": [(0.62, 0.52, 0.32), (0.48, 0.40, 0.27), (0.55, 0.50, 0.27), (0.43, 0.45, 0.25), (0.70, 0.60, 0.40)],
}
_WOODS: dict[Season, list[tuple[float, float, float]]] = {
    "spring": [(0.30, 0.41, 0.19), (0.42, 0.51, 0.25)],
    "summer": [(0.20, 0.31, 0.15), (0.32, 0.42, 0.19)],
    "autumn": [(0.52, 0.34, 0.14), (0.36, 0.36, 0.17)],
}
_WOOD_M = 74.0
_GRASS: dict[Season, tuple[float, float, float]] = {
    "spring": (0.44, 0.54, 0.26),
    "summer": (0.47, 0.51, 0.28),
    "autumn": (0.58, 0.51, 0.31),
}


@dataclass(frozen=True, slots=True)
class Land:
    """What the ground is; ``hill_deg`` is the height of the highest hills, ``trees`` a density 0 to 1."""

    name: LandName
    season: Season
    hill_deg: float
    trees: float


@dataclass(frozen=True, slots=True)
class Ground:
    """The pixels that show the plane: their position in metres, their distance, and the noise all textures share."""

    x_P: Floats
    z_P: Floats
    distance_P: Floats
    broad_P: Floats
    middle_P: Floats
    fine_P: Floats


def paint_land(
    image_HW3: Floats,
    rays_HW3: Floats,
    slope_HW: Floats,
    *,
    height_m: float,
    land: Land,
    weather: Weather,
    rng: np.random.Generator,
) -> None:
    """Paint hills and ground over a sky, in place, as seen ``height_m`` above the plane."""
    tile, rough = pick_tile(rng), pick_tile(rng, rough=True)
    _paint_hills(image_HW3, rays_HW3, slope_HW, land, weather, rough, rng)
    below = slope_HW < -0.004
    if not below.any():
        return
    ground = _locate(rays_HW3[below], height_m, tile, rough, rng)
    colour = _TEXTURES[land.name](ground, land, weather, rng)
    light = weather.sky_light + 0.75 * weather.sun * max(weather.sun_3[1], 0.25)
    # Broad cloud shadows are what makes land seen from the air look wide.
    shadow = 1.0 - 0.22 * smoothstep(0.5, 0.7, ground.broad_P) * float(weather.sun.mean() > 0.2)
    colour = colour * light * shadow[:, None]
    fade = np.exp(-ground.distance_P / weather.haze_m)[:, None]
    image_HW3[below] = weather.horizon + (colour - weather.horizon) * fade


def _locate(rays_P3: Floats, height_m: float, tile: Floats, rough: Floats, rng: np.random.Generator) -> Ground:
    reach = height_m / -rays_P3[:, 1]
    distance = reach * np.hypot(rays_P3[:, 0], rays_P3[:, 2])
    turn, (dx, dz) = rng.uniform(0, np.pi), rng.uniform(0, 1000, 2)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    x = reach * (cos * rays_P3[:, 0] - sin * rays_P3[:, 2]) + np.float32(dx)
    z = reach * (sin * rays_P3[:, 0] + cos * rays_P3[:, 2]) + np.float32(dz)
    return Ground(
        x,
        z,
        distance,
        broad_P=sample_smooth(tile, x / 620 + 0.3, z / 620),
        middle_P=sample_smooth(tile, x / 74, z / 74 + 0.4),
        fine_P=(sample(rough, x / 11, z / 11) - 0.5) * np.exp(-distance / 200) + 0.5,
    )


def _paint_hills(
    image_HW3: Floats,
    rays_HW3: Floats,
    slope_HW: Floats,
    land: Land,
    weather: Weather,
    tile: Floats,
    rng: np.random.Generator,
) -> None:
    # A soft edge one pixel wide, or ridges would show as stairs.
    pixel = float(np.abs(slope_HW[1, 0] - slope_HW[0, 0])) + 1e-4
    band = (slope_HW < np.tan(np.radians(land.hill_deg)) * 1.5 + pixel) & (slope_HW > -0.02)
    rays, slope, picture = rays_HW3[band], slope_HW[band], image_HW3[band]
    azimuth = np.arctan2(rays[:, 2], rays[:, 0]) / np.float32(2 * np.pi) + np.float32(0.5)
    bearing = np.minimum((azimuth * 1024).astype(np.int32), 1023)
    light = weather.sky_light + 0.55 * weather.sun
    for far, veil in ((1.0, 0.72), (0.62, 0.50), (0.34, 0.30)):
        line = fractal_line(rng, length=1024, coarsest=9, octaves=7)
        ridge = np.tan(np.radians(land.hill_deg * far)) * np.clip(0.42 + 0.5 * line, 0.0, None)
        depth = ridge.astype(np.float32)[bearing] - slope
        relief = sample(tile, azimuth * (24 / far), slope * (8 / far))
        mist = np.clip(veil + 3.0 * np.clip(depth, 0.0, None) + 120 / weather.haze_m, 0.0, 0.95)[:, None]
        colour = _hill_colour(land, relief) * light
        colour = colour + (weather.horizon - colour) * mist
        picture += (colour - picture) * np.clip(depth / pixel + 0.5, 0.0, 1.0)[:, None]
    image_HW3[band] = picture


def _rgb(values: object) -> Floats:
    return np.array(values, np.float32)


def _hill_colour(land: Land, relief_P: Floats) -> Floats:
    if land.name == "snow":
        dark, bright = _rgb((0.40, 0.44, 0.50)), _rgb((0.90, 0.92, 0.96))
        return np.asarray(dark + (bright - dark) * smoothstep(0.35, 0.6, relief_P)[:, None])
    wooded = 0.75 * _rgb(_WOODS[land.season]).mean(0) + 0.05
    base = _rgb((0.55, 0.46, 0.34)) if land.name == "steppe" else wooded
    return np.asarray(base * (0.62 + 0.76 * relief_P)[:, None])


def _farmland(ground: Ground, land: Land, weather: Weather, rng: np.random.Generator) -> Floats:
    palette = _rgb(_FIELDS[land.season])
    widths = rng.uniform(16, 60, 64)
    edges = np.concatenate([[0.0], np.cumsum(widths)]).astype(np.float32)
    x = np.mod(ground.x_P + 9 * (ground.broad_P - 0.5), edges[-1])
    column = np.clip(np.searchsorted(edges, x) - 1, 0, 63)
    length, offset = (
        rng.uniform(40, 130, 64).astype(np.float32)[column],
        rng.uniform(0, 300, 64).astype(np.float32)[column],
    )
    along = (ground.z_P + offset) / length
    row = np.floor(along).astype(np.int64)
    mixed = (column * 7919 + row * 104729) & 255
    tints = palette[rng.integers(0, len(palette), 256)] * rng.uniform(0.85, 1.15, (256, 1)).astype(np.float32)
    colour = tints[mixed] * (0.78 + 0.26 * ground.middle_P + 0.26 * ground.fine_P)[:, None]
    near = np.exp(-ground.distance_P / 120)
    rows_m = np.where(mixed & 1, ground.x_P, ground.z_P)
    colour *= (1 + 0.10 * near * np.sin(rows_m * (2 * np.pi / 1.1)))[:, None]
    margin = np.minimum(np.minimum(x - edges[column], edges[column + 1] - x), (along - row) * length)
    hedge = np.exp(-((margin / 1.3) ** 2))[:, None] * 0.75
    return np.asarray(colour + (_rgb((0.23, 0.29, 0.15)) - colour) * hedge)


def _forest(ground: Ground, land: Land, weather: Weather, rng: np.random.Generator) -> Floats:
    dark, bright = _rgb(_WOODS[land.season])
    kind = smoothstep(0.3, 0.7, ground.middle_P)
    colour = dark + (bright - dark) * kind[:, None]
    height, tint = _crowns()
    u, v = ground.x_P / _WOOD_M, ground.z_P / _WOOD_M
    dome = sample(height, u, v)
    towards = sample(height, u + 0.012 * weather.sun_3[0], v + 0.012 * weather.sun_3[2])
    sharp = np.exp(-ground.distance_P / 330)
    shade = 0.92 + sharp * (0.80 * (dome - 0.55) + 0.75 * (dome - towards) + 0.30 * (sample(tint, u, v) - 0.5))
    colour = colour * np.clip(shade + 0.5 * (ground.fine_P - 0.5), 0.25, 1.5)[:, None]
    clearing = smoothstep(0.64, 0.66, ground.broad_P)[:, None]
    meadow = _rgb(_GRASS[land.season]) * (0.6 + 0.4 * ground.middle_P + 0.3 * ground.fine_P)[:, None]
    return np.asarray(colour + (meadow - colour) * clearing)


def _grassland(ground: Ground, land: Land, weather: Weather, rng: np.random.Generator) -> Floats:
    base = _rgb(_GRASS[land.season])
    colour = base * (0.62 + 0.40 * ground.middle_P + 0.36 * ground.fine_P)[:, None]
    colour = _with_track(ground, colour, (0.66, 0.60, 0.48), rng)
    return _with_trees(ground, colour, _rgb(_WOODS[land.season]).mean(0), 0.2 + 0.5 * land.trees, weather)


def _snow(ground: Ground, land: Land, weather: Weather, rng: np.random.Generator) -> Floats:
    bright, blue = _rgb((0.96, 0.97, 1.0)), _rgb((0.74, 0.80, 0.90))
    drift = smoothstep(0.25, 0.75, 0.7 * ground.middle_P + 0.3 * ground.fine_P)[:, None]
    colour: Floats = blue + (bright - blue) * drift
    colour = _with_track(ground, colour, (0.60, 0.60, 0.62), rng)
    return _with_trees(ground, colour, _rgb((0.36, 0.39, 0.38)), 0.04 + 0.3 * land.trees, weather)


def _steppe(ground: Ground, land: Land, weather: Weather, rng: np.random.Generator) -> Floats:
    sand, ochre = _rgb((0.74, 0.65, 0.50)), _rgb((0.57, 0.46, 0.33))
    colour: Floats = ochre + (sand - ochre) * smoothstep(0.3, 0.7, ground.middle_P)[:, None]
    colour = colour * (0.72 + 0.5 * ground.fine_P)[:, None]
    scrub = smoothstep(0.56, 0.66, 0.45 * ground.middle_P + 0.55 * ground.fine_P)[:, None]
    colour = _with_track(ground, colour + (_rgb((0.44, 0.40, 0.27)) - colour) * (0.7 * scrub), (0.8, 0.73, 0.6), rng)
    return _with_trees(ground, colour, _rgb((0.36, 0.37, 0.24)), 0.04 + 0.2 * land.trees, weather)


def _lakeside(ground: Ground, land: Land, weather: Weather, rng: np.random.Generator) -> Floats:
    shore = ground.broad_P + 0.10 * (ground.middle_P - 0.5)
    level = rng.uniform(0.46, 0.54)
    grass = _grassland(ground, land, weather, rng)
    graze = np.exp(-ground.distance_P / 300)[:, None]
    mirror = weather.horizon + (0.55 * weather.zenith + 0.12 - weather.horizon) * (0.35 + 0.4 * graze)
    water = mirror * (0.90 + 0.14 * ground.fine_P)[:, None]
    beach = _rgb((0.66, 0.61, 0.50)) * smoothstep(level - 0.02, level, shore)[:, None]
    colour = grass + (beach - grass) * smoothstep(level - 0.02, level - 0.005, shore)[:, None]
    return np.asarray(colour + (water - colour) * smoothstep(level, level + 0.006, shore)[:, None])


def _with_track(
    ground: Ground, colour_P3: Floats, track: tuple[float, float, float], rng: np.random.Generator
) -> Floats:
    width = rng.uniform(1.0, 1.9)
    middle = rng.uniform(40, 120) + 14 * (ground.middle_P - 0.5) + 60 * (ground.broad_P - 0.5)
    away = np.abs(np.mod(ground.x_P, 160) - middle)
    worn = np.exp(-((away / width) ** 4))[:, None] * 0.75
    return np.asarray(colour_P3 + (_rgb(track) - colour_P3) * worn)


def _with_trees(ground: Ground, colour_P3: Floats, leaf_3: Floats, share: float, weather: Weather) -> Floats:
    """Single trees and copses: some crowns of the forest's tile, each with the shadow it throws."""
    height, tint = _crowns()
    u, v = ground.x_P / _WOOD_M, ground.z_P / _WOOD_M
    gate = 1.0 - share * (0.25 + 1.1 * smoothstep(0.42, 0.62, ground.middle_P))
    throw = 0.035 / max(float(weather.sun_3[1]), 0.3)
    shadow = sample(tint, u + throw * weather.sun_3[0], v + throw * weather.sun_3[2]) > gate
    colour = colour_P3 * (1.0 - 0.55 * float(weather.sun.mean()) * shadow)[:, None]
    dome = sample(height, u, v)
    shade = 0.45 + 0.75 * dome + 0.5 * (ground.fine_P - 0.5)
    crown = (sample(tint, u, v) > gate) & (dome > 0.12)
    return np.asarray(np.where(crown[:, None], leaf_3 * shade[:, None], colour))


@lru_cache(maxsize=1)
def _crowns() -> tuple[Floats, Floats]:
    """Tree tops from above: a tile of domes (0 to 1) and of their tints; the same forest for every scene."""
    size, cells = 512, 16
    leaves = pick_tile(np.random.default_rng(8), rough=True)
    ragged = 0.9 * (np.tile(leaves, (2, 2)) - 0.5)
    rng = np.random.default_rng(5)
    steps = (np.arange(size) + 0.5) * cells / size
    height, tint = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    for row in range(cells):
        for column in range(cells):
            centre, radius = rng.uniform(0.15, 0.85, 2) + np.array((column, row)), rng.uniform(0.5, 0.95)
            dx, dy = ((steps - c + cells / 2) % cells - cells / 2 for c in centre)
            away = (dx[None, :] ** 2 + dy[:, None] ** 2) / radius**2
            ball = (1.0 - away + ragged) * (away < 1.5)
            dome = np.sqrt(np.clip(ball, 0.0, 1.2)).astype(np.float32) * rng.uniform(0.75, 1.0)
            tint = np.where(dome > height, np.float32(rng.random()), tint)
            height = np.maximum(height, dome)
    return height, tint


_TEXTURES: dict[LandName, Callable[[Ground, Land, Weather, np.random.Generator], Floats]] = {
    "farmland": _farmland,
    "forest": _forest,
    "grassland": _grassland,
    "snow": _snow,
    "steppe": _steppe,
    "lakeside": _lakeside,
}
