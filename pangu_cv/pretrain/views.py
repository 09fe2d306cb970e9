"""Random views of an image, with defaults that keep a defect what it is, and damage for the decoder to repair.

No view erases: no cutout, no solarising, no strong blur, and crops stay large enough that a small defect is usually
in both of them. Shapes: S pixels a side.
"""

import os
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pangu_cv.settings import Rising, Settings

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network at import otherwise

import albumentations as A
import cv2

Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(gt=0, le=1)]
Above0 = Annotated[float, Field(gt=0)]
Parts = Annotated[tuple[Part, Part], Rising]
Quality = Annotated[int, Field(ge=1, le=100)]
DamageKind = Literal["noise", "blur", "jpeg", "downscale"]
Pixels = NDArray[np.uint8]
_LONG = 2  # times the shorter side


class DamageConfig(Settings):
    """What is done to the network's input for the decoder to undo; at most one kind per view."""

    p: Share = 0.5
    """Chance that a view is damaged."""
    noise_sigma: Annotated[tuple[Share, Share], Rising] = (0.02, 0.2)
    """Gaussian noise, deviation as a share of white; of a grey view the same in all channels, as a grey camera's is."""
    blur_sigma: Annotated[tuple[Above0, Above0], Rising] = (0.5, 2.0)
    """Gaussian blur, in pixels of the view."""
    jpeg_quality: Annotated[tuple[Quality, Quality], Rising] = (10, 60)
    """JPEG compression."""
    downscale: Parts = (0.25, 0.6)
    """Resolution that is left, as a share."""
    kinds: tuple[DamageKind, ...] = ("noise", "noise", "blur", "jpeg", "downscale")
    """Kinds drawn from; a kind named twice comes twice as often."""


class ViewsConfig(Settings):
    """Two or more looks at one image."""

    image_px: Annotated[int, Field(ge=32, le=1024)] = 112
    """Side of a view, a multiple of the network's patch side."""
    scale: Parts = (0.4, 1.0)
    """Share of the image's area that a view shows; a low first number loses small defects from one of two views."""
    flip_lr: bool = True
    """Mirror left and right."""
    flip_ud: bool = True
    """Mirror up and down; off where up means something."""
    rot90: bool = True
    """Quarter turns; off where direction means something."""
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Strength of changes of brightness and contrast, half of it for saturation; hue hardly moves."""
    grey: Share = 0.2
    """Chance that colour is taken away, so that visible, thermal and grey images meet."""
    blur: Share = 0.1
    """Chance of a mild blur (deviation up to 1 pixel)."""
    local_views: Annotated[int, Field(ge=0, le=12)] = 0
    """Small views beside the two large ones (dino)."""
    local_px: Annotated[int, Field(ge=16, le=512)] = 64
    """Side of a small view."""
    local_scale: Parts = (0.1, 0.4)
    """Share of the image's area that a small view shows."""
    damage: DamageConfig = DamageConfig()
    """For the restoration term."""

    def build(self) -> "Views":
        """The maker of views."""
        return Views(self)


@dataclass(frozen=True)
class Seen:
    """Large views as the network sees them (possibly damaged) and as they were: uint8[2,S,S,3]; small ones beside."""

    inputs: Pixels
    clean: Pixels
    local: Pixels


class Views:
    """Draws views; the same seed gives the same views on every machine and in every process."""

    def __init__(self, config: ViewsConfig) -> None:
        self.config = config
        self._large = _pipeline(config, config.image_px, config.scale)
        self._small = _pipeline(config, config.local_px, config.local_scale)

    def __call__(self, image_HW3: Pixels, *, seed: int) -> Seen:
        """Views of one image; ``seed`` decides all that is random."""
        cv2.setNumThreads(0)  # worker processes share the cores already
        image_HW3 = _squashed(image_HW3)
        self._large.set_random_seed(seed % 2**32)
        self._small.set_random_seed(seed % 2**32)
        random = np.random.default_rng(seed)
        large = [np.ascontiguousarray(self._large(image=image_HW3)["image"]) for _ in range(2)]
        damaged = [damage(view, self.config.damage, random) for view in large]
        side = self.config.local_px
        small = [self._small(image=image_HW3)["image"] for _ in range(self.config.local_views)]
        local = np.stack(small) if small else np.zeros((0, side, side, 3), np.uint8)
        return Seen(np.stack(damaged), np.stack(large), local)


def _squashed(image_HW3: Pixels) -> Pixels:
    """An image longer than twice its width, such as a strip of steel, as the square that it becomes in use: no crop of
    near to equal sides holds enough of it, and its middle would be all that is ever seen."""
    short, long = sorted(image_HW3.shape[:2])
    if long <= _LONG * short:
        return image_HW3
    side = min(long, 2 * short)
    return np.asarray(cv2.resize(image_HW3, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def _pipeline(config: ViewsConfig, side: int, scale: tuple[float, float]) -> A.Compose:
    light = 0.5 * config.jitter
    steps: list[Any] = [A.RandomResizedCrop((side, side), scale=scale, interpolation=cv2.INTER_AREA)]
    if config.flip_lr:
        steps.append(A.HorizontalFlip(p=0.5))
    if config.flip_ud:
        steps.append(A.VerticalFlip(p=0.5))
    if config.rot90:
        steps.append(A.RandomRotate90(p=0.75))
    if config.jitter:
        steps.append(A.ColorJitter(light * 2, light * 2, light, min(0.02, light), p=0.8))
    steps += [A.ToGray(p=config.grey), A.GaussianBlur(sigma_limit=(0.1, 1.0), blur_limit=0, p=config.blur)]
    return A.Compose(steps)


def damage(view_SS3: Pixels, config: DamageConfig, random: np.random.Generator) -> Pixels:
    """The view, or the view with one kind of damage; same shape."""
    if random.random() >= config.p or not config.kinds:
        return view_SS3
    side = view_SS3.shape[0]
    match config.kinds[random.integers(len(config.kinds))]:
        case "noise":
            sigma = 255 * random.uniform(*config.noise_sigma)
            noise = random.standard_normal((side, side, 1 if _is_grey(view_SS3) else 3), np.float32)
            return (view_SS3 + sigma * noise).clip(0, 255).astype(np.uint8)
        case "blur":
            return np.asarray(cv2.GaussianBlur(view_SS3, (0, 0), random.uniform(*config.blur_sigma)), np.uint8)
        case "jpeg":
            quality = int(random.integers(config.jpeg_quality[0], config.jpeg_quality[1] + 1))
            encoded = cv2.imencode(".jpg", view_SS3, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
            return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
        case "downscale":
            small = max(4, round(side * random.uniform(*config.downscale)))
            reduced = cv2.resize(view_SS3, (small, small), interpolation=cv2.INTER_AREA)
            return np.asarray(cv2.resize(reduced, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


def _is_grey(view_SS3: Pixels) -> bool:
    return bool((view_SS3 == view_SS3[..., :1]).all())
