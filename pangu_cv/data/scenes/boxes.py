"""The boxes of a scene: its defect, its insulator strings and its pylon."""

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.scenes.canvas import OVERSAMPLE
from pangu_cv.data.scenes.insulator import View
from pangu_cv.data.scenes.plan import Plan
from pangu_cv.data.scenes.pylon import members

Box = tuple[float, float, float, float]


def find_boxes(
    plan: Plan, views: list[View], mask_HW: NDArray[np.uint8], defect: str | None, *, side_px: int
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Boxes float32[K, 4] in final pixels, clipped to the image, and their labels; what hardly shows has none."""
    size = side_px / OVERSAMPLE
    found: list[tuple[Box, str]] = []
    if defect and mask_HW.any():
        found.append((_mask_box(mask_HW), defect))
    for view in views:
        box = _clipped(tuple(v / OVERSAMPLE for v in view.box_xyxy), size, least_share=0.35)
        found += [(box, "insulator")] if box else []
    box = _clipped(_pylon_box(plan, size), size, least_share=0.0)
    found += [(box, "pylon")] if box else []
    return np.array([box for box, _ in found], np.float32).reshape(-1, 4), tuple(label for _, label in found)


def _mask_box(mask_HW: NDArray[np.uint8]) -> Box:
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    return (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def _pylon_box(plan: Plan, size: float) -> tuple[float, ...]:
    """Around the part of every member that is in the frame, sampled along its length."""
    ends = members(plan.pylon).ends_M23
    share = np.linspace(0.0, 1.0, 5)[:, None]
    points = (ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * share[None]).reshape(-1, 3)
    seen = plan.camera.project(points)
    inside = (seen.depth_N > 0.5) & ((seen.xy_N2 >= -0.02) & (seen.xy_N2 <= 1.02)).all(axis=1)
    if not inside.any():
        return (0.0, 0.0, 0.0, 0.0)
    xy = seen.xy_N2[inside] * size
    return (*xy.min(axis=0).tolist(), *xy.max(axis=0).tolist())


def _clipped(box: tuple[float, ...], size: float, *, least_share: float) -> Box | None:
    x0, y0, x1, y1 = (min(max(v, 0.0), size) for v in box)
    area = (box[2] - box[0]) * (box[3] - box[1])
    if x1 - x0 < 0.03 * size or y1 - y0 < 0.03 * size or (x1 - x0) * (y1 - y0) < least_share * area:
        return None
    return (x0, y0, x1, y1)
