"""Round things between two points: conductors, earth wires, links, clamps and dampers."""

from collections.abc import Callable

import numpy as np

from pangu_cv.data.scenes.camera import Camera
from pangu_cv.data.scenes.canvas import Canvas, Drawable, to_colours
from pangu_cv.data.scenes.light import Light
from pangu_cv.data.scenes.noise import Floats

GALVANISED = np.array((0.50, 0.51, 0.53))
ALUMINIUM = np.array((0.56, 0.57, 0.58))
FITTING = np.array((0.42, 0.43, 0.44))
CAST_IRON = np.array((0.33, 0.33, 0.34))


_SPAN_SHARE = np.linspace(0.0, 1.0, 20) ** 2.2
_JUMPER_SHARE = np.linspace(0.0, 1.0, 17)


def span(start_3: Floats, *, towards: int, length_m: float, sag_m: float) -> Floats:
    """A conductor's parabola from its clamp to the next tower, float[K, 3]; ``towards`` is the sign of z."""
    share = _SPAN_SHARE
    points = np.repeat(start_3[None], len(share), axis=0)
    points[:, 1] -= 4.0 * sag_m * share * (1.0 - share)
    points[:, 2] += towards * length_m * share
    return np.asarray(points)


def jumper(start_3: Floats, end_3: Floats, *, drop_m: float) -> Floats:
    """The loop that leads the current past a tension tower, float[K, 3]."""
    points = start_3 + (end_3 - start_3) * _JUMPER_SHARE[:, None]
    points[:, 1] -= (drop_m * (1.0 - (2.0 * _JUMPER_SHARE - 1.0) ** 4)) * 0.9
    return np.asarray(points)


def tube(
    points_K3: Floats,
    camera: Camera,
    light: Light,
    *,
    width_m: float,
    colour_3: Floats,
    side_px: int,
    nearer_m: float = 0,
) -> list[Drawable]:
    """A cable or rod along a path, or nothing where the path is behind the camera."""
    seen = camera.project(points_K3)
    front = np.flatnonzero(seen.depth_N > 0.5)
    if len(front) < 2:
        return []
    kept = slice(front[0], front[-1] + 1)
    xy, depth = seen.xy_N2[kept] * side_px, seen.depth_N[kept]
    if (xy.max(axis=0) < -20).any() or (xy.min(axis=0) > side_px + 20).any():
        return []
    half = np.maximum(0.5 * width_m * camera.focal * side_px / np.maximum(depth, 0.5), 0.55)
    near = float(np.sort(depth)[len(depth) // 8] if len(depth) > 2 else depth.mean())
    return [Drawable(near - nearer_m, _tube_painter(xy, half, light, colour_3))]


def _tube_painter(xy_K2: Floats, half_K: Floats, light: Light, colour_3: Floats) -> Callable[[Canvas], None]:
    step = xy_K2[1:] - xy_K2[:-1]
    along = np.concatenate([step, step[-1:]])
    along[1:-1] += step[:-1]
    along /= np.maximum(np.sqrt(along[:, :1] ** 2 + along[:, 1:] ** 2), 1e-6)
    across = along[:, ::-1] * (-1.0, 1.0)
    tones = to_colours(_round_tones(across[0], light, colour_3))
    widest = float(half_K.max())

    def draw(canvas: Canvas) -> None:
        if widest < 1.3:
            canvas.line(xy_K2.ravel().tolist(), tones[1], max(1, round(2 * widest)))
            return
        outer = (xy_K2 + across * half_K[:, None])[::-1]
        for low, tone in zip((-1.0, -0.5, 0.35), tones, strict=True):
            inner = xy_K2 + across * (low * half_K)[:, None]
            canvas.polygon(np.concatenate([inner, outer]).ravel().tolist(), tone)

    return draw


def _round_tones(across_2: Floats, light: Light, colour_3: Floats) -> Floats:
    x, y = across_2.tolist()
    normals = np.array([[-0.8 * x, 0.8 * y, 0.6], [0.0, 0.0, 1.0], [0.75 * x, -0.75 * y, 0.66]])
    return light.shade(colour_3, normals)


def damper(
    at_3: Floats, camera: Camera, light: Light, *, side_px: int, scale: float = 1.0, nearer_m: float = 0.05
) -> list[Drawable]:
    """A Stockbridge damper: two weights on a short messenger cable below the conductor."""
    drop, reach, weight = 0.09 * scale, 0.20 * scale, 0.10 * scale
    below = at_3 - (0.0, drop, 0.0)
    along = np.array((0.0, 0.0, 1.0))
    parts = [(at_3, below, 0.035), (below - reach * along, below + reach * along, 0.018)]
    parts += [(below + s * reach * along, below + s * (reach - weight) * along, 0.062) for s in (-1, 1)]
    return [
        piece
        for start, end, width in parts
        for piece in tube(
            np.array((start, end)), camera, light, width_m=width * scale, colour_3=CAST_IRON, side_px=side_px,
            nearer_m=nearer_m,
        )
    ]  # fmt: skip
