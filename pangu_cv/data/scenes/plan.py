"""Everything a scene decides before anything is drawn, and before it is known whether it has a defect."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pangu_cv.data.scenes.camera import Camera, look_at
from pangu_cv.data.scenes.glaze import GLAZES, Glaze
from pangu_cv.data.scenes.landscape import Land, LandName, Season
from pangu_cv.data.scenes.noise import Floats
from pangu_cv.data.scenes.pylon import Pylon
from pangu_cv.data.scenes.rigging import Arrangement, Line
from pangu_cv.data.scenes.seeds import stream
from pangu_cv.data.scenes.weather import MOODS, Weather, WeatherName, draw_weather

_ARRANGEMENTS: dict[Arrangement, float] = {
    "suspension": 0.34,
    "double_suspension": 0.16,
    "v_string": 0.12,
    "strain": 0.22,
    "double_strain": 0.16,
}
_WEATHERS: dict[WeatherName, float] = {
    "clear": 0.22, "cloudy": 0.28, "overcast": 0.16, "golden": 0.14, "hazy": 0.10, "stormy": 0.10,
}  # fmt: skip
_LANDS: dict[LandName, float] = {
    "farmland": 0.28, "forest": 0.20, "grassland": 0.18, "snow": 0.12, "steppe": 0.10, "lakeside": 0.12,
}  # fmt: skip
Name = TypeVar("Name", bound=str)

_STEELS = ((0.66, 0.68, 0.70), (0.58, 0.60, 0.62), (0.62, 0.61, 0.57), (0.74, 0.76, 0.77), (0.44, 0.52, 0.47))


@dataclass(frozen=True, slots=True)
class SceneConfig:
    """What scenes may be drawn: the image's side in pixels and the sensor's grain (standard deviation, grey levels).

    ``station`` is the seed of one place: its tower, line, land and camera stay, weather, light and defects come and go,
    as a camera mounted on the line sees it. None draws a new place for every scene, as a drone on patrol does.
    """

    size_px: int = 512
    grain: tuple[float, float] = (0.8, 3.2)
    weathers: tuple[WeatherName, ...] = tuple(MOODS)
    lands: tuple[LandName, ...] = tuple(_LANDS)
    arrangements: tuple[Arrangement, ...] = tuple(_ARRANGEMENTS)
    station: int | None = None

    def __post_init__(self) -> None:
        if self.size_px < 64:
            raise ValueError(f"size_px is {self.size_px}; scenes need at least 64")
        for field, allowed in (("weathers", _WEATHERS), ("lands", _LANDS), ("arrangements", _ARRANGEMENTS)):
            chosen = getattr(self, field)
            if not chosen or not set(chosen) <= set(allowed):
                raise ValueError(f"{field} is {chosen}; it takes one or more of {', '.join(allowed)}")


@dataclass(frozen=True, slots=True)
class Plan:
    """One scene's decisions; ``azimuth_deg`` and ``elevation_deg`` say from where the camera looks.

    ``place_seed`` is the seed of what stays where it is, the scene's own unless the config names a station.
    """

    weather: Weather
    land: Land
    pylon: Pylon
    line: Line
    camera: Camera
    azimuth_deg: float
    elevation_deg: float
    place_seed: int


def draw_plan(seed: int, config: SceneConfig) -> Plan:
    """The decisions of a seed."""
    place_seed = seed if config.station is None else config.station
    rng = stream(place_seed, "plan")
    land = _draw_land(rng, _pick(rng, _LANDS, config.lands))
    arrangement = _pick(rng, _ARRANGEMENTS, config.arrangements)
    line = _draw_line(rng, arrangement)
    pylon = _draw_pylon(rng, line)
    azimuth, elevation = _draw_direction(rng, arrangement)
    today = rng if config.station is None else stream(seed, "plan")
    weather = draw_weather(today, _pick(today, _WEATHERS, config.weathers), behind_deg=azimuth)
    camera = _aim(rng, line, pylon, azimuth, elevation)
    return Plan(weather, land, pylon, line, camera, azimuth, elevation, place_seed)


def _pick(rng: np.random.Generator, shares: dict[Name, float], allowed: tuple[Name, ...]) -> Name:
    weights = np.array([shares[name] for name in allowed])
    return allowed[int(rng.choice(len(allowed), p=weights / weights.sum()))]


def _draw_land(rng: np.random.Generator, name: LandName) -> Land:
    seasons: tuple[Season, ...] = ("spring", "summer", "autumn")
    season = seasons[int(rng.integers(3))]
    return Land(name, season, hill_deg=float(rng.choice([1.5, 3.0, 5.5, 9.0])), trees=float(rng.random()))


def _draw_line(rng: np.random.Generator, arrangement: Arrangement) -> Line:
    glaze: Glaze = GLAZES[int(rng.choice(len(GLAZES), p=(0.22, 0.18, 0.15, 0.13, 0.10, 0.12, 0.10)))]
    composite = glaze.shape == "composite"
    few = arrangement == "v_string"
    units = int(rng.integers(5, 7) if composite else rng.integers(5, 8 if few else 9))
    spacing = rng.uniform(0.18, 0.215) if composite else rng.uniform(0.155, 0.185)
    return Line(
        arrangement, glaze, units, float(spacing), bundle=int(rng.integers(1, 3)), span_m=float(rng.uniform(240, 360)),
        sag_m=float(rng.uniform(6, 11)), droop_deg=float(rng.uniform(6, 14)), grime=float(rng.random() ** 2),
    )  # fmt: skip


def _draw_pylon(rng: np.random.Generator, line: Line) -> Pylon:
    gap = rng.uniform(4.0, 5.5)
    levels = [(0.0,), (0.0, gap), (0.0, -gap), (-gap, 0.0, gap)][int(rng.integers(4))]
    least = 1.0 + 2 * (line.string_m + 0.36) * 0.643 if line.arrangement == "v_string" else 2.6
    return Pylon(
        height_m=float(rng.uniform(22, 42)),
        arm_m=float(least + rng.uniform(0.3, 1.8)),
        arm_rise_m=float(rng.uniform(0.7, 1.2)),
        levels_m=tuple(float(level) for level in levels),
        half_width_m=float(rng.uniform(0.6, 0.85)),
        flare=float(rng.uniform(0.035, 0.06)),
        steel=_STEELS[int(rng.integers(len(_STEELS)))],
    )


def _draw_direction(rng: np.random.Generator, arrangement: Arrangement) -> tuple[float, float]:
    """Azimuth from +x towards z and elevation, so that the discs are neither edge-on stacks nor end-on circles."""
    sign = float(rng.choice([-1.0, 1.0]))
    if arrangement in ("strain", "double_strain"):
        low = 8.0 if arrangement == "double_strain" else -18.0
        return sign * float(rng.uniform(5, 38)), float(rng.triangular(low, max(low, 2.0) + 1, 28))
    azimuth = (55, 84) if arrangement in ("v_string", "double_suspension") else (24, 82)
    return sign * float(rng.uniform(*azimuth)), float(rng.triangular(-26, 2, 34))


def _aim(rng: np.random.Generator, line: Line, pylon: Pylon, azimuth_deg: float, elevation_deg: float) -> Camera:
    azimuth, elevation = np.radians((azimuth_deg, elevation_deg))
    back = np.array([np.cos(elevation) * np.cos(azimuth), np.sin(elevation), np.cos(elevation) * np.sin(azimuth)])
    target, extent, centre = _framing(rng, line, pylon, azimuth_deg)
    focal = float(rng.uniform(1.25, 2.4))
    position = target + back * focal * extent
    return look_at(target, from_3=position, focal=focal, centre=centre, roll_deg=float(rng.normal(0, 2.0)))


def _framing(
    rng: np.random.Generator, line: Line, pylon: Pylon, azimuth_deg: float
) -> tuple[Floats, float, tuple[float, float]]:
    """What to look at, how many metres fill the frame's side, and where in the frame it goes."""
    tip = pylon.tip(0.0, 1)
    if line.arrangement in ("strain", "double_strain"):
        # Mostly the string that leads away from the arm in the image.
        towards = -np.sign(azimuth_deg) * float(rng.choice([1.0, -1.0], p=[0.85, 0.15]))
        middle = tip + towards * (0.20 + line.string_m / 2) * np.array([0.0, 0.0, 1.0])
        extent = (line.string_m + 0.3) / rng.uniform(0.56, 0.70)
        return (
            middle - (0, 0.2, 0),
            float(extent),
            (
                float(rng.uniform(0.47, 0.57) if towards < 0 else rng.uniform(0.43, 0.53)),
                float(rng.uniform(0.38, 0.60)),
            ),
        )
    if line.arrangement == "v_string":
        reach = line.string_m + 0.36
        middle = tip - (0.643 * reach, 0.45 * reach, 0)
        return middle, float(1.286 * reach / rng.uniform(0.62, 0.76)), (
            float(rng.uniform(0.45, 0.55)), float(rng.uniform(0.45, 0.58)),
        )  # fmt: skip
    middle = tip - (0, 0.30 + line.string_m / 2, 0)
    # The link above and the arm's truss, where birds nest, belong in the picture.
    extent = (line.string_m + 1.15) / rng.uniform(0.82, 0.94)
    height = 0.5 + 0.28 / extent + rng.uniform(-0.02, 0.03)
    # The tower lies on the side the arm comes from; leave it room.
    across = -np.sign(azimuth_deg) * rng.uniform(-0.16, 0.10)
    return middle, float(extent), (float(0.5 + across), float(height))
