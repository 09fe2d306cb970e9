"""A pinhole camera. The world is in metres: x along the cross-arm, y up, z along the line."""

from dataclasses import dataclass

import numpy as np

from pangu_cv.data.scenes.noise import Floats

NEAR_M = 0.4


@dataclass(frozen=True, slots=True)
class Projection:
    """Image points in image sides (0 to 1 is inside) and their distance along the viewing axis in metres."""

    xy_N2: Floats
    depth_N: Floats


@dataclass(frozen=True, slots=True)
class Camera:
    """Rows of ``axes_33`` are the unit vectors right, up and forward; ``focal`` and ``centre`` are in image sides."""

    position_3: Floats
    axes_33: Floats
    focal: float
    centre: tuple[float, float]

    def project(self, points_N3: Floats) -> Projection:
        """Where world points fall; points nearer than ``NEAR_M`` are held at that depth."""
        local = (points_N3 - self.position_3) @ self.axes_33.T
        scale = self.focal / np.maximum(local[..., 2], NEAR_M)
        xy = local[..., :2] * scale[..., None]
        xy *= (1.0, -1.0)
        xy += self.centre
        return Projection(xy, local[..., 2])

    def direction(self, vector_3: Floats) -> Floats:
        """A world direction in the camera's frame (right, up, forward)."""
        return np.asarray(self.axes_33 @ vector_3)

    def rays(self, size_px: int) -> Floats:
        """The world direction each pixel of a square image looks along, float32[3, size, size], not normalised."""
        steps = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px
        x = (steps - self.centre[0]) / self.focal
        y = (self.centre[1] - steps) / self.focal
        right, up, forward = self.axes_33.astype(np.float32)[:, :, None]
        across, down = (x * right)[:, None, :], (y * up + forward)[:, :, None]
        return np.asarray(across + down, np.float32)


def look_at(
    target_3: Floats, *, from_3: Floats, focal: float, centre: tuple[float, float], roll_deg: float = 0.0
) -> Camera:
    """A camera at ``from_3`` that shows ``target_3`` at the image point ``centre``."""
    forward = (target_3 - from_3) / np.linalg.norm(target_3 - from_3)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    cos, sin = np.cos(np.radians(roll_deg)), np.sin(np.radians(roll_deg))
    axes = np.stack([cos * right + sin * up, cos * up - sin * right, forward])
    return Camera(np.asarray(from_3), axes, focal, centre)
