"""The land below: fields, woods, snow or water on a plane, hills at the horizon, all fading into the haze."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from pangu_cv.data.scenes.noise import Floats, column, fractal_line, pick_tile, sample, sample_smooth, smoothstep
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
    image_3HW: Floats,
    rays_3HW: Floats,
    slope_HW: Floats,
    *,
    height_m: float,
    land: Land,
    weather: Weather,
    rng: np.random.Generator,
) -> None:
    """Paint hills and ground over a sky, in place, as seen ``height_m`` above the plane."""
    tile, rough = pick_tile(rng), pick_tile(rng, rough=True)
    image, rays, slope = image_3HW.reshape(3, -1), rays_3HW.reshape(3, -1), slope_HW.ravel()
    _paint_hills(image, rays, slope, slope_HW.shape[1], land, weather, rough, rng)
    below = np.flatnonzero(slope < -0.004)
    if not len(below):
        return
    ground = _locate(rays.take(below, axis=1), height_m, tile, rough, rng)
    colour = _TEXTURES[land.name](ground, land, weather, rng)
    light = weather.sky_light + 0.75 * weather.sun * max(float(weather.sun_3[1]), 0.25)
    # Broad cloud shadows are what makes land seen from the air look wide.
    shadow = 1.0 - 0.22 * smoothstep(0.5, 0.7, ground.broad_P) * float(weather.sun.mean() > 0.2)
    fade = np.exp(-ground.distance_P / weather.haze_m)
    horizon = column(weather.horizon)
    image[:, below] = horizon + (colour * column(light) * shadow - horizon) * fade


def _locate(rays_3P: Floats, height_m: float, tile: Floats, rough: Floats, rng: np.random.Generator) -> Ground:
    reach = height_m / -rays_3P[1]
    distance = reach * np.sqrt(rays_3P[0] ** 2 + rays_3P[2] ** 2)
    turn, (dx, dz) = rng.uniform(0, np.pi), rng.uniform(0, 1000, 2)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    x = reach * (cos * rays_3P[0] - sin * rays_3P[2]) + np.float32(dx)
    z = reach * (sin * rays_3P[0] + cos * rays_3P[2]) + np.float32(dz)
    return Ground(
        x,
        z,
        distance,
        broad_P=sample_smooth(tile, x / 620 + 0.3, z / 620),
        middle_P=sample_smooth(tile, x / 74, z / 74 + 0.4),
        fine_P=(sample(rough, x / 11, z / 11) - 0.5) * np.exp(-distance / 200) + 0.5,
    )


def _paint_hills(
    image_3P: Floats,
    rays_3P: Floats,
    slope_P: Floats,
    width_px: int,
    land: Land,
    weather: Weather,
    tile: Floats,
    rng: np.random.Generator,
) -> None:
    # A soft edge one pixel wide, or ridges would show as stairs.
    pixel = float(np.abs(slope_P[width_px] - slope_P[0])) + 1e-4
    band = np.flatnonzero((slope_P < np.tan(np.radians(land.hill_deg)) * 1.5 + pixel) & (slope_P > -0.02))
    slope, picture = slope_P[band], image_3P.take(band, axis=1)
    azimuth = np.arctan2(rays_3P[2, band], rays_3P[0, band]) / np.float32(2 * np.pi) + np.float32(0.5)
    bearing = np.minimum((azimuth * 1024).astype(np.intp), 1023)
    light, horizon = column(weather.sky_light + 0.55 * weather.sun), column(weather.horizon)
    for far, veil in ((1.0, 0.72), (0.62, 0.50), (0.34, 0.30)):
        line = fractal_line(rng, length=1024, coarsest=9, octaves=7)
        ridge = np.tan(np.radians(land.hill_deg * far)) * np.clip(0.42 + 0.5 * line, 0.0, None)
        depth = ridge.astype(np.float32).take(bearing) - slope
        relief = sample(tile, azimuth * (24 / far), slope * (8 / far))
        mist = np.clip(veil + 3.0 * np.clip(depth, 0.0, None) + 120 / weather.haze_m, 0.0, 0.95)
        colour = _hill_colour(land, relief) * light
        colour += (horizon - colour) * mist
        picture += (colour - picture) * np.clip(depth / pixel + 0.5, 0.0, 1.0)
    image_3P[:, band] = picture


def _rgb(values: object) -> Floats:
    """One colour or several as columns, float32[3, K]."""
    return np.array(values, np.float32).reshape(-1, 3).T


def _hill_colour(land: Land, relief_P: Floats) -> Floats:
    if land.name == "snow":
        dark, bright = _rgb((0.40, 0.44, 0.50)), _rgb((0.90, 0.92, 0.96))
        return np.asarray(dark + (bright - dark) * smoothstep(0.35, 0.6, relief_P))
    wooded = 0.75 * _leaf(land) + 0.05
    base = _rgb((0.55, 0.46, 0.34)) if land.name == "steppe" else wooded
    return np.asarray(base * (0.62 + 0.76 * relief_P))


def _leaf(land: Land) -> Floats:
    return np.asarray(_rgb(_WOODS[land.season]).mean(axis=1, keepdims=True))


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
    row = np.floor(along).astype(np.intp)
    mixed = (column * 7919 + row * 104729) & 255
    tints = palette[:, rng.integers(0, palette.shape[1], 256)] * rng.uniform(0.85, 1.15, 256).astype(np.float32)
    colour = tints.take(mixed, axis=1) * (0.78 + 0.26 * ground.middle_P + 0.26 * ground.fine_P)
    near = np.exp(-ground.distance_P / 120)
    rows_m = np.where(mixed & 1, ground.x_P, ground.z_P)
    colour *= 1 + 0.10 * near * np.sin(rows_m * (2 * np.pi / 1.1))
    margin = np.minimum(np.minimum(x - edges[column], edges[column + 1] - x), (along - row) * length)
    hedge = np.exp(-((margin / 1.3) ** 2)) * 0.75
    return np.asarray(colour + (_rgb((0.23, 0.29, 0.15)) - colour) * hedge)


def _forest(ground: Ground, land: Land, weather: Weather, rng: np.random.Generator) -> Floats:
    dark, bright = (_rgb(leaf) for leaf in _WOODS[land.season])
    kind = smoothstep(0.3, 0.7, ground.middle_P)
    colour = dark + (bright - dark) * kind
    height, tint = _crowns()
    u, v = ground.x_P / _WOOD_M, ground.z_P / _WOOD_M
    dome = sample(height, u, v)
    towards = sample(height, u + 0.012 * weather.sun_3[0], v + 0.012 * weather.sun_3[2])
    sharp = np.exp(-ground.distance_P / 330)
    shade = 0.92 + sharp * (0.80 * (dome - 0.55) + 0.75 * (dome - towards) + 0.30 * (sample(tint, u, v) - 0.5))
    colour = colour * np.clip(shade + 0.5 * (ground.fine_P - 0.5), 0.25, 1.5)
    clearing = smoothstep(0.64, 0.66, ground.broad_P)
    meadow = _rgb(_GRASS[land.season]) * (0.6 + 0.4 * ground.middle_P + 0.3 * ground.fine_P)
    return np.asarray(colour + (meadow - colour) * clearing)


def _grassland(ground: Ground, land: Land, weather: Weather, rng: np.random.Generator) -> Floats:
    base = _rgb(_GRASS[land.season])
    colour = base * (0.62 + 0.40 * ground.middle_P + 0.36 * ground.fine_P)
    colour = _with_track(ground, colour, (0.66, 0.60, 0.48), rng)
    return _with_trees(ground, colour, _leaf(land), 0.2 + 0.5 * land.trees, weather)


def _snow(ground: Ground, land: Land, weather: Weather, rng: np.random.Generator) -> Floats:
    bright, blue = _rgb((0.96, 0.97, 1.0)), _rgb((0.74, 0.80, 0.90))
    drift = smoothstep(0.25, 0.75, 0.7 * ground.middle_P + 0.3 * ground.fine_P)
    colour: Floats = blue + (bright - blue) * drift
    colour = _with_track(ground, colour, (0.60, 0.60, 0.62), rng)
    return _with_trees(ground, colour, _rgb((0.36, 0.39, 0.38)), 0.04 + 0.3 * land.trees, weather)


def _steppe(ground: Ground, land: Land, weather: Weather, rng: np.random.Generator) -> Floats:
    sand, ochre = _rgb((0.74, 0.65, 0.50)), _rgb((0.57, 0.46, 0.33))
    colour: Floats = ochre + (sand - ochre) * smoothstep(0.3, 0.7, ground.middle_P)
    colour = colour * (0.72 + 0.5 * ground.fine_P)
    scrub = smoothstep(0.56, 0.66, 0.45 * ground.middle_P + 0.55 * ground.fine_P)
    colour = _with_track(ground, colour + (_rgb((0.44, 0.40, 0.27)) - colour) * (0.7 * scrub), (0.8, 0.73, 0.6), rng)
    return _with_trees(ground, colour, _rgb((0.36, 0.37, 0.24)), 0.04 + 0.2 * land.trees, weather)


def _lakeside(ground: Ground, land: Land, weather: Weather, rng: np.random.Generator) -> Floats:
    shore = ground.broad_P + 0.10 * (ground.middle_P - 0.5)
    level = rng.uniform(0.46, 0.54)
    grass = _grassland(ground, land, weather, rng)
    graze = np.exp(-ground.distance_P / 300)
    horizon, zenith = column(weather.horizon), column(weather.zenith)
    mirror = horizon + (0.55 * zenith + 0.12 - horizon) * (0.35 + 0.4 * graze)
    water = mirror * (0.90 + 0.14 * ground.fine_P)
    beach = _rgb((0.66, 0.61, 0.50)) * smoothstep(level - 0.02, level, shore)
    colour = grass + (beach - grass) * smoothstep(level - 0.02, level - 0.005, shore)
    return np.asarray(colour + (water - colour) * smoothstep(level, level + 0.006, shore))


def _with_track(
    ground: Ground, colour_3P: Floats, track: tuple[float, float, float], rng: np.random.Generator
) -> Floats:
    width = rng.uniform(1.0, 1.9)
    middle = rng.uniform(40, 120) + 14 * (ground.middle_P - 0.5) + 60 * (ground.broad_P - 0.5)
    away = np.abs(np.mod(ground.x_P, 160) - middle)
    worn = np.exp(-((away / width) ** 4)) * 0.75
    return np.asarray(colour_3P + (_rgb(track) - colour_3P) * worn)


def _with_trees(ground: Ground, colour_3P: Floats, leaf_31: Floats, share: float, weather: Weather) -> Floats:
    """Single trees and copses: some crowns of the forest's tile, each with the shadow it throws."""
    height, tint = _crowns()
    u, v = ground.x_P / _WOOD_M, ground.z_P / _WOOD_M
    gate = 1.0 - share * (0.25 + 1.1 * smoothstep(0.42, 0.62, ground.middle_P))
    throw = 0.035 / max(float(weather.sun_3[1]), 0.3)
    shadow = sample(tint, u + throw * weather.sun_3[0], v + throw * weather.sun_3[2]) > gate
    colour = colour_3P * (1.0 - 0.55 * float(weather.sun.mean()) * shadow)
    dome = sample(height, u, v)
    shade = 0.45 + 0.75 * dome + 0.5 * (ground.fine_P - 0.5)
    crown = (sample(tint, u, v) > gate) & (dome > 0.12)
    return np.asarray(np.where(crown, leaf_31 * shade, colour))


@lru_cache(maxsize=1)
def _crowns() -> tuple[Floats, Floats]:
    """Tree tops from above: a tile of domes (0 to 1) and of their tints; the same forest for every scene."""
    size, cells = 512, 16
    ragged = 0.9 * (np.tile(pick_tile(np.random.default_rng(8), rough=True), (2, 2)) - 0.5)
    rng = np.random.default_rng(5)
    height, tint = np.zeros((2, size, size), np.float32)
    # No crown reaches further than this from its centre, so only the tile's pixels around it are touched.
    reach = np.arange(-40, 41)
    for down in range(cells):
        for across in range(cells):
            centre, radius = rng.uniform(0.15, 0.85, 2) + np.array((across, down)), rng.uniform(0.5, 0.95)
            middle = np.round(centre * (size / cells)).astype(int)
            dx, dy = ((m + reach + 0.5) * cells / size - c for m, c in zip(middle, centre, strict=True))
            near = np.ix_((middle[1] + reach) % size, (middle[0] + reach) % size)
            away = (dx[None, :] ** 2 + dy[:, None] ** 2) / radius**2
            ball = (1.0 - away + ragged[near]) * (away < 1.5)
            dome = np.sqrt(np.clip(ball, 0.0, 1.2)).astype(np.float32) * np.float32(rng.uniform(0.75, 1.0))
            tint[near] = np.where(dome > height[near], np.float32(rng.random()), tint[near])
            height[near] = np.maximum(height[near], dome)
    return height, tint


_TEXTURES: dict[LandName, Callable[[Ground, Land, Weather, np.random.Generator], Floats]] = {
    "farmland": _farmland,
    "forest": _forest,
    "grassland": _grassland,
    "snow": _snow,
    "steppe": _steppe,
    "lakeside": _lakeside,
}
