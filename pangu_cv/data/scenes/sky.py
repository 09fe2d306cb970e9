"""The sky: a gradient, the glow around the sun and a layer of clouds in perspective."""

import numpy as np

from pangu_cv.data.scenes.noise import Floats, pick_tile, sample_smooth, smoothstep
from pangu_cv.data.scenes.weather import Weather


def paint_sky(rays_HW3: Floats, slope_HW: Floats, weather: Weather, rng: np.random.Generator) -> Floats:
    """Colours float32[H, W, 3] of every ray; ``slope`` is a ray's height over its ground distance."""
    height = np.clip(slope_HW, 0.0, None)[..., None]
    blend = 1.0 - np.exp(-2.4 * height)
    sky = weather.horizon.astype(np.float32) * (1 - blend) + weather.zenith.astype(np.float32) * blend
    length = np.sqrt(np.einsum("hwc,hwc->hw", rays_HW3, rays_HW3))
    towards_sun = np.clip(rays_HW3 @ weather.sun_3.astype(np.float32) / length, 0.0, 1.0)
    glow = 0.30 * towards_sun**6 + 0.45 * towards_sun**60
    sky += (glow[..., None] * weather.sun * (1.15 - sky)).astype(np.float32)
    return _add_clouds(sky, rays_HW3, slope_HW, weather, rng)


def _add_clouds(
    sky_HW3: Floats, rays_HW3: Floats, slope_HW: Floats, weather: Weather, rng: np.random.Generator
) -> Floats:
    tile = pick_tile(rng)
    scale = rng.uniform(0.10, 0.20)
    offset = rng.random(2)
    level = np.hypot(rays_HW3[..., 0], rays_HW3[..., 2])
    # A curved layer: a flat one would crowd to infinity at the horizon.
    reach = scale / (np.clip(slope_HW, 0.0, None) + 0.14) / level
    u, v = rays_HW3[..., 0] * reach + offset[0], rays_HW3[..., 2] * reach + offset[1]
    density = sample_smooth(tile, u, v)
    ahead = sample_smooth(tile, u + 0.03 * weather.sun_3[0], v + 0.03 * weather.sun_3[2])
    edge = 0.78 - 0.60 * weather.cover
    opacity = smoothstep(edge - 0.05, edge + 0.20, density) * smoothstep(-0.01, 0.12, slope_HW)
    lit = np.clip(0.68 + 3.2 * (density - ahead) - 0.9 * np.clip(density - edge - 0.08, 0.0, None), 0.0, 1.0)
    colour = weather.cloud_shade + (weather.cloud - weather.cloud_shade) * lit[..., None]
    return np.asarray(sky_HW3 + (colour - sky_HW3) * (0.94 * opacity)[..., None], np.float32)
