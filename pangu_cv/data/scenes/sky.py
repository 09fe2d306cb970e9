"""The sky: a gradient, the glow around the sun and a layer of clouds in perspective."""

import numpy as np

from pangu_cv.data.scenes.noise import Floats, column, pick_tile, sample_smooth, smoothstep
from pangu_cv.data.scenes.weather import Weather


def paint_sky(rays_3HW: Floats, slope_HW: Floats, weather: Weather, rng: np.random.Generator) -> Floats:
    """Colours float32[3, H, W] of every ray; ``slope`` is a ray's height over its ground distance."""
    rays, slope = rays_3HW.reshape(3, -1), slope_HW.ravel()
    horizon, zenith = column(weather.horizon), column(weather.zenith)
    sky = horizon + (zenith - horizon) * (1.0 - np.exp(-2.4 * np.clip(slope, 0.0, None)))
    length = np.sqrt(np.einsum("cp,cp->p", rays, rays))
    towards_sun = np.clip(weather.sun_3 @ rays / length, 0.0, 1.0)
    glow = 0.30 * towards_sun**6 + 0.45 * towards_sun**60
    sky += glow * column(weather.sun) * (1.15 - sky)
    _add_clouds(sky, rays, slope, weather, rng)
    return np.asarray(sky.reshape(rays_3HW.shape), np.float32)


def _add_clouds(sky_3P: Floats, rays_3P: Floats, slope_P: Floats, weather: Weather, rng: np.random.Generator) -> None:
    tile = pick_tile(rng)
    scale = rng.uniform(0.10, 0.20)
    offset = rng.random(2).astype(np.float32)
    level = np.sqrt(rays_3P[0] ** 2 + rays_3P[2] ** 2)
    # A curved layer: a flat one would crowd to infinity at the horizon.
    reach = scale / (np.clip(slope_P, 0.0, None) + 0.14) / level
    u, v = rays_3P[0] * reach + offset[0], rays_3P[2] * reach + offset[1]
    density = sample_smooth(tile, u, v)
    ahead = sample_smooth(tile, u + 0.03 * weather.sun_3[0], v + 0.03 * weather.sun_3[2])
    edge = 0.78 - 0.60 * weather.cover
    opacity = smoothstep(edge - 0.05, edge + 0.20, density) * smoothstep(-0.01, 0.12, slope_P)
    lit = np.clip(0.68 + 3.2 * (density - ahead) - 0.9 * np.clip(density - edge - 0.08, 0.0, None), 0.0, 1.0)
    shade, cloud = column(weather.cloud_shade), column(weather.cloud)
    sky_3P += (shade + (cloud - shade) * lit - sky_3P) * (0.94 * opacity)
