"""Sky colours, sun and haze: what the hour and the weather do to every other part of the scene."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pangu_cv.data.scenes.noise import Floats

WeatherName = Literal["clear", "cloudy", "overcast", "golden", "hazy", "stormy"]
RGB = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Mood:
    """The centre of one weather's colours (0 to 1), before a scene draws its own."""

    zenith: RGB
    horizon: RGB
    cloud: RGB
    cloud_shade: RGB
    sun: RGB
    sun_strength: float
    ambient: float
    cover: tuple[float, float]
    haze_m: tuple[float, float]
    sun_elevation_deg: tuple[float, float]


MOODS: dict[WeatherName, Mood] = {
    "clear": Mood(
        (0.20, 0.40, 0.70), (0.70, 0.82, 0.92), (0.99, 0.99, 0.99), (0.76, 0.81, 0.88), (1.0, 0.96, 0.88),
        0.62, 0.52, (0.05, 0.30), (2500, 6000), (35, 70),
    ),
    "cloudy": Mood(
        (0.26, 0.45, 0.73), (0.74, 0.83, 0.91), (0.99, 0.98, 0.97), (0.62, 0.68, 0.77), (1.0, 0.96, 0.90),
        0.52, 0.56, (0.42, 0.62), (2000, 4500), (30, 65),
    ),
    "overcast": Mood(
        (0.62, 0.66, 0.71), (0.82, 0.84, 0.86), (0.90, 0.91, 0.92), (0.60, 0.63, 0.68), (1.0, 0.98, 0.96),
        0.16, 0.80, (0.72, 0.95), (900, 2200), (35, 65),
    ),
    "golden": Mood(
        (0.34, 0.43, 0.62), (0.98, 0.79, 0.55), (1.0, 0.87, 0.70), (0.64, 0.56, 0.60), (1.0, 0.76, 0.46),
        0.70, 0.44, (0.20, 0.55), (1200, 3000), (8, 20),
    ),
    "hazy": Mood(
        (0.60, 0.70, 0.80), (0.87, 0.88, 0.87), (0.95, 0.95, 0.94), (0.78, 0.80, 0.82), (1.0, 0.95, 0.86),
        0.36, 0.66, (0.10, 0.40), (280, 700), (30, 60),
    ),
    "stormy": Mood(
        (0.34, 0.39, 0.47), (0.70, 0.72, 0.74), (0.76, 0.78, 0.81), (0.30, 0.33, 0.39), (1.0, 0.95, 0.88),
        0.30, 0.58, (0.62, 0.85), (1200, 3000), (25, 55),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Weather:
    """One scene's weather: colours float[3] in 0 to 1, ``sun_3`` the unit vector towards the sun."""

    name: WeatherName
    zenith: Floats
    horizon: Floats
    cloud: Floats
    cloud_shade: Floats
    sun: Floats
    ambient: float
    cover: float
    haze_m: float
    sun_3: Floats

    @property
    def sky_light(self) -> Floats:
        """The light that comes from above, out of the sun."""
        return np.asarray(self.ambient * (0.35 * self.zenith + 0.35 * self.horizon + 0.35))


def draw_weather(rng: np.random.Generator, name: WeatherName, *, behind_deg: float) -> Weather:
    """A weather of the named kind; the sun stands more often than not behind the camera, at ``behind_deg``."""
    mood = MOODS[name]
    tint = rng.normal(0.0, 0.018, (4, 3))
    elevation, azimuth = np.radians((rng.uniform(*mood.sun_elevation_deg), behind_deg + rng.normal(0, 65)))
    level = np.cos(elevation)
    sun_3 = np.array([level * np.cos(azimuth), np.sin(elevation), level * np.sin(azimuth)])
    return Weather(
        name=name,
        zenith=_single(mood.zenith + tint[0]),
        horizon=_single(mood.horizon + tint[1]),
        cloud=_single(mood.cloud + tint[2]),
        cloud_shade=_single(mood.cloud_shade + tint[3]),
        sun=_single(np.array(mood.sun) * mood.sun_strength * rng.uniform(0.85, 1.1)),
        ambient=mood.ambient * rng.uniform(0.94, 1.06),
        cover=rng.uniform(*mood.cover),
        haze_m=rng.uniform(*mood.haze_m),
        sun_3=_single(sun_3),
    )


def _single(values: Floats) -> Floats:
    return values.astype(np.float32)
