"""A lattice tower of angle steel: where its members run, and how they are drawn."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pangu_cv.data.scenes.camera import NEAR_M, Camera
from pangu_cv.data.scenes.canvas import Canvas, Colour, Drawable, to_colours
from pangu_cv.data.scenes.light import Light
from pangu_cv.data.scenes.noise import Floats


@dataclass(frozen=True, slots=True)
class Pylon:
    """A tower whose main cross-arm is at y = 0 and points along +x; lengths in metres, ``steel`` a colour 0 to 1."""

    height_m: float
    arm_m: float
    arm_rise_m: float
    levels_m: tuple[float, ...]
    half_width_m: float
    flare: float
    steel: tuple[float, float, float]

    def half_width_at(self, y_m: float) -> float:
        """Half the body's width at a height relative to the main arm."""
        return max(self.half_width_m - self.flare * y_m, 0.12)

    def tip(self, level_m: float, side: int) -> Floats:
        """The end of an arm, where its strings hang."""
        return np.array([side * self.arm_m, level_m, 0.0])


@dataclass(frozen=True, slots=True)
class Members:
    """Straight steel members: their ends in metres and their widths."""

    ends_M23: Floats
    width_M: Floats


@lru_cache(maxsize=4)
def members(pylon: Pylon) -> Members:
    """Every member of the tower."""
    bodies = _body(pylon)
    arms = [_arm(pylon, level, side) for level in pylon.levels_m for side in (1, -1)]
    parts = [*bodies, *(part for arm in arms for part in arm)]
    ends = np.concatenate([part for part, _ in parts])
    return Members(ends, np.concatenate([np.full(len(part), width) for part, width in parts]))


def far_members(pylon: Pylon, *, shift_3: Floats) -> Members:
    """The few members that show of the next tower along the line."""
    everything = members(pylon)
    stout = everything.width_M > 0.075
    return Members(everything.ends_M23[stout] + shift_3, everything.width_M[stout])


def _body(pylon: Pylon) -> list[tuple[Floats, float]]:
    top = max(pylon.levels_m) + 2.6
    heights = [top]
    while heights[-1] > -pylon.height_m:
        heights.append(max(heights[-1] - 2.1 * pylon.half_width_at(heights[-1]), -pylon.height_m))
    widths = np.array([pylon.half_width_at(y) for y in heights[1:]])
    corners = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]])
    legs = np.empty((4, len(heights), 3))
    legs[..., 1] = heights
    legs[..., 0] = corners[:, :1] * np.append(0.1, widths)
    legs[..., 2] = corners[:, 1:] * np.append(0.1, widths)
    beside = np.roll(legs, -1, axis=0)
    return [
        (_pairs(legs[:, :-1], legs[:, 1:]), 0.15),
        (_pairs(legs[:, :-1], beside[:, 1:]), 0.07),
        (_pairs(beside[:, :-1], legs[:, 1:]), 0.07),
        (_pairs(legs[:, 1:], beside[:, 1:]), 0.07),
    ]


def _arm(pylon: Pylon, level_m: float, side: int) -> list[tuple[Floats, float]]:
    steps = np.linspace(0.0, 1.0, 6)[:, None]
    chords = []
    for rise, end_rise in ((0.0, 0.0), (pylon.arm_rise_m, 0.13)):
        for z in (1, -1):
            half = pylon.half_width_at(level_m + rise)
            root = np.array([side * half, level_m + rise, z * half])
            tip = np.array([side * pylon.arm_m, level_m + end_rise, z * 0.09])
            chords.append(root + (tip - root) * steps)
    low, low_back, high, high_back = chords
    thin = [
        _pairs(low[1:-1], low_back[1:-1]),
        _pairs(high[1:-1], high_back[1:-1]),
        _zigzag(low, low_back),
        *(part for a, b in ((low, high), (low_back, high_back)) for part in (_zigzag(b, a), _pairs(a[1:-1], b[1:-1]))),
    ]
    stout = np.concatenate([_pairs(chord[:-1], chord[1:]) for chord in chords])
    return [(stout, 0.10), (np.concatenate(thin), 0.055)]


def _pairs(start: Floats, end: Floats) -> Floats:
    return np.asarray(np.stack([start, end], axis=-2).reshape(-1, 2, 3))


def _zigzag(a_K3: Floats, b_K3: Floats) -> Floats:
    odd = (np.arange(len(a_K3)) % 2 == 1)[:, None]
    path = np.where(odd, b_K3, a_K3)
    return _pairs(path[:-1], path[1:])


def draw_members(
    steel: Members, camera: Camera, light: Light, *, colour_3: Floats, veil_3: Floats, veil: float, side_px: int
) -> list[Drawable]:
    """Each member in the frame as two lit flanges; ``veil`` mixes in the haze's colour for far towers."""
    ends = _clip_near(steel.ends_M23, camera)
    seen = camera.project(ends)
    xy, depth = seen.xy_N2, np.maximum(seen.depth_N, NEAR_M)
    half = 0.5 * steel.width_M[:, None] * camera.focal / depth
    low, high = xy.min(axis=1), xy.max(axis=1)
    kept = (low < 1.05).all(axis=1) & (high > -0.05).all(axis=1) & (seen.depth_N.max(axis=1) > NEAR_M * 1.01)
    xy, half, depth = xy[kept] * side_px, half[kept] * side_px, depth[kept]
    along = xy[:, 1] - xy[:, 0]
    along = along / np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6)[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    quads, colours = _flanges(xy, half, across), _flange_colours(across, light, colour_3, steel.ends_M23[kept])
    colours = colours + (veil_3 - colours) * veil
    tones = to_colours(colours.reshape(-1, 3))
    corners, nearness, widths = quads.reshape(-1, 2, 8).tolist(), depth.mean(axis=1).tolist(), half.max(axis=1).tolist()
    return [
        Drawable(away, _Bar(quad, bright, dark, width).draw)
        for away, quad, bright, dark, width in zip(nearness, corners, tones[::2], tones[1::2], widths, strict=True)
    ]


def _clip_near(ends_M23: Floats, camera: Camera) -> Floats:
    depth = (ends_M23 - camera.position_3) @ camera.axes_33[2]
    gap = depth[:, ::-1] - depth
    share = np.where(depth < NEAR_M, (NEAR_M - depth) / np.where(np.abs(gap) < 1e-9, 1e-9, gap), 0.0)
    share = np.clip(share, 0.0, 1.0)[..., None]
    return np.asarray(ends_M23 + (ends_M23[:, ::-1] - ends_M23) * share)


def _flanges(xy_M22: Floats, half_M2: Floats, across_M2: Floats) -> Floats:
    offsets = np.array([-1.0, 0.25, 1.0])
    rails = xy_M22[:, None] + offsets[None, :, None, None] * half_M2[:, None, :, None] * across_M2[:, None, None]
    inner, outer = rails[:, :-1], rails[:, 1:, ::-1]
    return np.asarray(np.concatenate([inner, outer], axis=2))


def _flange_colours(across_M2: Floats, light: Light, colour_3: Floats, ends_M23: Floats) -> Floats:
    slant = across_M2 * (1.0, -1.0)
    sides = []
    for sign in (-1.0, 1.0):
        normals = np.concatenate([sign * 0.75 * slant, np.full((len(slant), 1), 0.66)], axis=1)
        sides.append(light.shade(colour_3, normals))
    # Each bar has weathered its own way; the tone hangs on its place, not on drawing order.
    worn = 0.90 + 0.20 * np.modf(np.abs(ends_M23.sum(axis=(1, 2))) * 7.31)[0]
    return np.asarray(np.stack(sides, axis=1) * worn[:, None, None] * np.array([1.0, 0.82])[None, :, None])


@dataclass(frozen=True, slots=True)
class _Bar:
    """Two flanges as polygons, or one line where they would be finer than the canvas."""

    quads: list[list[float]]
    bright: Colour
    dark: Colour
    half_px: float

    def draw(self, canvas: Canvas) -> None:
        if self.half_px < 1.2:
            (x0, y0, x1, y1), width = self.quads[0][:4], max(1, round(2 * self.half_px))
            canvas.line([x0, y0, x1, y1], self.bright, width)
            return
        canvas.polygon(self.quads[0], self.bright)
        canvas.polygon(self.quads[1], self.dark)
