"""Sky and land behind a scene, and what they do to its light."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from pangu_cv.data.scenes.landscape import paint_land
from pangu_cv.data.scenes.noise import Floats
from pangu_cv.data.scenes.plan import Plan
from pangu_cv.data.scenes.seeds import stream
from pangu_cv.data.scenes.sensor import meter
from pangu_cv.data.scenes.sky import paint_sky


@dataclass(frozen=True, slots=True)
class Backdrop:
    """The picture, the land's mean colour (0 to 1), and the exposure a camera would choose for it."""

    image: Image.Image
    ground_3: Floats
    gain: float


def paint_backdrop(seed: int, plan: Plan, *, size_px: int) -> Backdrop:
    """Paint at three eighths of the size (the sky at half of that), for it is far and a little out of focus."""
    coarse = plan.camera.rays(size_px * 3 // 16)
    sky = paint_sky(coarse, _slope(coarse), plan.weather, stream(seed, "sky"))
    rays = plan.camera.rays(2 * sky.shape[1])
    slope = _slope(rays)
    picture = sky.repeat(2, axis=1).repeat(2, axis=2)
    height = plan.pylon.height_m + float(plan.camera.position_3[1])
    rng = stream(plan.place_seed, "ground")
    paint_land(picture, rays, slope, height_m=height, land=plan.land, weather=plan.weather, rng=rng)
    low = slope < -0.02
    ground = (picture * low).sum(axis=(1, 2)) / low.sum() if low.any() else np.full(3, 0.4)
    pixels = Image.merge("RGB", [Image.fromarray(plane) for plane in (np.clip(picture, 0, 1) * 255).astype(np.uint8)])
    # The slight blur takes the stairs off what was sampled texel by texel.
    image = pixels.filter(ImageFilter.BoxBlur(0.5)).resize((size_px, size_px), Image.Resampling.BICUBIC)
    return Backdrop(image, ground.astype(np.float32), meter(picture))


def _slope(rays_3HW: Floats) -> Floats:
    return np.asarray(rays_3HW[1] / np.maximum(np.sqrt(rays_3HW[0] ** 2 + rays_3HW[2] ** 2), 1e-4))
