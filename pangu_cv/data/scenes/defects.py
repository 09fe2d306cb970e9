"""Which defect a scene gets and where: damage to a string, or something that does not belong on the line."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from pangu_cv.data.scenes.camera import Camera
from pangu_cv.data.scenes.canvas import Drawable
from pangu_cv.data.scenes.foreign import draw_thing
from pangu_cv.data.scenes.insulator import Damage, View
from pangu_cv.data.scenes.light import Light
from pangu_cv.data.scenes.nest import draw_nest
from pangu_cv.data.scenes.noise import Floats
from pangu_cv.data.scenes.plan import Plan
from pangu_cv.data.scenes.pylon import Pylon
from pangu_cv.data.scenes.rigging import Rigging

DefectKind = Literal["missing_disc", "broken_disc", "burn", "nest", "foreign_object"]
DEFECT_KINDS: tuple[DefectKind, ...] = get_args(DefectKind)


@dataclass(frozen=True, slots=True)
class Placed:
    """A defect in its place: damage to the string with this number, or drawables, and a foreign object's name."""

    string: int = -1
    damage: Damage | None = None
    drawables: tuple[Drawable, ...] = ()
    thing: str | None = None


def place_defect(
    kind: DefectKind,
    rng: np.random.Generator,
    *,
    plan: Plan,
    rigging: Rigging,
    views: tuple[View, ...],
    light: Light,
    side_px: int,
) -> Placed:
    """Choose the place of a defect on the main arm, whose ``views`` are in the order of its strings."""
    if kind == "nest":
        return _place_nest(rng, plan, light, side_px)
    string = main_string(views, side_px, rng)
    if kind == "foreign_object":
        return _place_thing(rng, plan, rigging, views[string], light, side_px)
    composite = plan.line.glaze.shape == "composite"
    inside = _inside(views[string].xy_N2 / side_px, 0.07)
    if kind == "burn":
        count = int(rng.integers(3, 5))
    elif kind == "missing_disc":
        count = int(rng.integers(2, 4)) if composite else int(rng.choice([1, 2], p=[0.75, 0.25]))
    else:
        count = 2 if composite else 1
    count = min(count, len(inside) - 2)
    first = _choose_run(inside, count, rng)
    return Placed(string, Damage(kind, tuple(range(first, first + count)), rng))


def main_string(views: tuple[View, ...], side_px: int, rng: np.random.Generator) -> int:
    """A string that lies wholly in the frame where there is one; of two that overlap, the nearer."""
    shown = np.array([_inside(view.xy_N2 / side_px, 0.05).mean() for view in views])
    whole = np.flatnonzero(shown >= shown.max() - 0.01)
    middles = np.array([views[i].xy_N2.mean(axis=0) for i in whole])
    apart = np.hypot(*(middles[:, None] - middles[None]).transpose(2, 0, 1)) > 2.2 * views[int(whole[0])].radius_px
    if len(whole) > 1 and apart[~np.eye(len(whole), dtype=bool)].all():
        return int(rng.choice(whole))
    return int(min(whole, key=lambda i: float(views[i].depth_N.mean())))


def _inside(xy_N2: Floats, margin: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.asarray(((xy_N2 > margin) & (xy_N2 < 1.0 - margin)).all(axis=1))


def _choose_run(inside_N: np.ndarray[tuple[int], np.dtype[np.bool_]], count: int, rng: np.random.Generator) -> int:
    """The first of ``count`` neighbouring units in the frame, away from the fittings at both ends if it can be."""
    starts = np.arange(1, len(inside_N) - count)
    good = [int(s) for s in starts if inside_N[s : s + count].all()]
    return int(rng.choice(good)) if good else (len(inside_N) - count) // 2


def _place_nest(rng: np.random.Generator, plan: Plan, light: Light, side_px: int) -> Placed:
    spots = _perches(plan.pylon)
    seen = plan.camera.project(spots)
    roomy = np.minimum(seen.xy_N2, 1.0 - seen.xy_N2).min(axis=1)
    near = (seen.depth_N > 1.0) & (seen.depth_N < 6.0 * plan.camera.focal)
    fit = np.flatnonzero((roomy > 0.11) & near)
    fit = fit[np.argsort(seen.depth_N[fit], kind="stable")][: max(4, len(fit) // 2)]
    spot = int(rng.choice(fit)) if len(fit) else int(np.where(near, roomy, -9.0).argmax())
    radius = float(np.clip(rng.uniform(0.22, 0.34) * plan.camera.focal / seen.depth_N[spot], 0.055, 0.115))
    radius = min(radius, max(0.85 * float(roomy[spot]), 0.05))
    draw = draw_nest(rng, seen.xy_N2[spot] * side_px, radius * side_px, light)
    return Placed(drawables=(Drawable(float(seen.depth_N[spot]) - 0.6, draw),))


def _perches(pylon: Pylon) -> Floats:
    """Places on top of every arm, from near its tip to its root, float[K, 3]."""
    root = pylon.half_width_at(pylon.arm_rise_m)
    share = np.linspace(0.05, 0.95, 13)
    x = pylon.arm_m + (root - pylon.arm_m) * share
    y = 0.17 + (pylon.arm_rise_m - 0.13) * share
    arms = [np.stack([side * x, level + y, 0 * x], axis=1) for level in pylon.levels_m for side in (1, -1)]
    return np.concatenate(arms)


def _place_thing(
    rng: np.random.Generator, plan: Plan, rigging: Rigging, view: View, light: Light, side_px: int
) -> Placed:
    spots, depths = _anchors(plan.camera, rigging)
    room = (spots[:, 0] > 0.16) & (spots[:, 0] < 0.84) & (spots[:, 1] > 0.12) & (spots[:, 1] < 0.74)
    if room.any() and rng.random() < 0.75:
        chosen = int(rng.choice(np.flatnonzero(room)))
        spot, depth = spots[chosen], float(depths[chosen])
    else:
        unit = _choose_run(_inside(view.xy_N2 / side_px, 0.16), 1, rng)
        spot, depth = view.xy_N2[unit] / side_px, float(view.depth_N.min())
    thing, draw = draw_thing(rng, np.clip(spot, 0.16, 0.84) * side_px, side_px, light)
    return Placed(drawables=(Drawable(depth - 0.45, draw),), thing=thing)


def _anchors(camera: Camera, rigging: Rigging) -> tuple[Floats, Floats]:
    """Points along the near part of every conductor, in image sides, and their depths."""
    paths = [tube.path_K3 for tube in rigging.tubes if tube.kind == "conductor"]
    points = []
    for path in paths:
        along = np.abs(path[:, 2] - path[0, 2])
        reach = np.linspace(0.25, min(3.5, float(along.max())), 10)
        points.append(np.stack([np.interp(reach, along, path[:, axis]) for axis in range(3)], axis=1))
    seen = camera.project(np.concatenate(points))
    front = seen.depth_N > 0.8
    return seen.xy_N2[front], seen.depth_N[front]
