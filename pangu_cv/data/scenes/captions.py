"""Plain English sentences for a scene, worded in many ways."""

import numpy as np

from pangu_cv.data.scenes.defects import DefectKind
from pangu_cv.data.scenes.landscape import LandName, Season
from pangu_cv.data.scenes.plan import Plan
from pangu_cv.data.scenes.rigging import Arrangement
from pangu_cv.data.scenes.weather import WeatherName

_SKIES: dict[WeatherName, tuple[str, ...]] = {
    "clear": ("a clear blue sky", "a bright blue sky", "a nearly cloudless sky"),
    "cloudy": ("a cloudy sky", "a blue sky with scattered clouds", "a sky full of white clouds"),
    "overcast": ("an overcast sky", "a grey overcast sky", "a flat grey sky"),
    "golden": ("a golden evening sky", "a warm low-sun sky", "a sky at golden hour"),
    "hazy": ("a hazy sky", "a pale hazy sky", "a milky sky"),
    "stormy": ("a stormy sky", "a dark cloudy sky", "heavy dark clouds"),
}
_LANDS: dict[LandName, tuple[str, ...]] = {
    "farmland": ("{season} farmland", "a patchwork of {season} fields", "fields in {season}"),
    "forest": ("a {season} forest", "wooded land in {season}", "dense {season} woodland"),
    "grassland": ("{season} grassland", "open grassland in {season}", "green and dry meadows"),
    "snow": ("snow-covered land", "a snowy plain", "a winter landscape"),
    "steppe": ("dry steppe", "a dry, sandy plain", "barren dry land"),
    "lakeside": ("a lake shore", "meadows beside a lake", "land beside open water"),
}
_STRINGS: dict[Arrangement, tuple[str, ...]] = {
    "suspension": ("{glaze} suspension insulator string", "{glaze} insulator string"),
    "double_suspension": ("{glaze} double suspension insulator string", "pair of {glaze} suspension insulator strings"),
    "v_string": ("V-shaped {glaze} insulator string", "{glaze} V-string insulator set"),
    "strain": ("{glaze} strain insulator string", "{glaze} tension insulator string"),
    "double_strain": ("{glaze} double strain insulator string", "pair of {glaze} strain insulator strings"),
}
_FAULTS: dict[DefectKind, tuple[str, ...]] = {
    "missing_disc": ("with a missing {disc}", "in which a {disc} is missing", "with a gap left by a missing {disc}"),
    "broken_disc": ("with a broken {disc}", "with a chipped and broken {disc}", "in which one {disc} is broken"),
    "burn": ("with flashover burn marks on the {disc}s", "blackened by a flashover burn", "with burn marks and soot"),
    "nest": ("with a bird nest on the cross-arm", "below a bird nest of twigs", "next to a bird nest on the pylon"),
    "foreign_object": ("with {object} caught on the line", "with {object} hanging from the conductor"),
}
_SOUND = (
    "in good condition",
    "with no visible defect",
    "with all {disc}s intact",
    "without any damage",
    "in sound order",
)
_FRAMES = (
    "{subject} {state} against {sky}.",
    "{subject} {state}, above {land} under {sky}.",
    "A drone photo of {subject} {state}; behind it {land} and {sky}.",
    "{subject} on a lattice pylon, {state}, with {land} in the background.",
    "Power-line inspection: {subject} {state}, {view}, over {land}.",
    "{subject} {state}, {view}, against {sky}.",
)


def caption_for(plan: Plan, defect: DefectKind | None, thing: str | None, rng: np.random.Generator) -> str:
    """One sentence on the string, its state, the land and the sky; ``thing`` names a foreign object."""
    disc = "shed" if plan.line.glaze.shape == "composite" else "disc"
    subject = "a " + _one(rng, _STRINGS[plan.line.arrangement]).format(glaze=plan.line.glaze.name)
    state = _one(rng, _FAULTS[defect] if defect else _SOUND).format(disc=disc, object=thing)
    season: Season = plan.land.season
    frame = _one(rng, _FRAMES)
    text = frame.format(
        subject=subject,
        state=state,
        sky=_one(rng, _SKIES[plan.weather.name]),
        land=_one(rng, _LANDS[plan.land.name]).format(season=season),
        view=_view(plan.elevation_deg),
    ).replace("a autumn", "an autumn")
    return text[0].upper() + text[1:]


def _view(elevation_deg: float) -> str:
    if elevation_deg > 10:
        return "seen from above"
    return "seen from below" if elevation_deg < -8 else "seen at eye level"


def _one(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]
