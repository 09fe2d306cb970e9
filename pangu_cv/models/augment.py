"""Random variants of a labelled image that keep what it is labelled for.

Crops, mirrors, quarter turns and light; nothing that erases, and no crop that would cut away a labelled defect, or the
last of a class: such a one is drawn again, and given up after a few tries. Shapes: H×W pixels, K boxes.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pangu_cv.data.masks import IGNORE
from pangu_cv.models.copy_paste import cut, paste
from pangu_cv.models.labelled import Labelled, Pixels, crop
from pangu_cv.settings import Rising, Settings

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network at import otherwise

import albumentations as A
import cv2

Share = Annotated[float, Field(ge=0, le=1)]
Above0 = Annotated[float, Field(gt=0)]
_TRIES = 5
_AIMED = 0.8  # share of tiles that are looked for where something is


class AugmentConfig(Settings):
    """What may be done to an image."""

    scale: Annotated[tuple[Above0, Above0], Rising] = (0.4, 1.0)
    """Share of the image's area that a crop shows; (1, 1) shows all of it."""
    ratio: Annotated[tuple[Above0, Above0], Rising] = (0.8, 1.25)
    """Stretch of a crop's sides against the image's."""
    flip_lr: bool = True
    """Mirror left and right."""
    flip_ud: bool = True
    """Mirror up and down; off where up means something."""
    rot90: bool = True
    """Quarter turns; off where direction means something."""
    light: Share = 0.3
    """Strength of changes of brightness and contrast, half of it for saturation."""
    blur: Share = 0.1
    """Chance of a mild blur (deviation up to 1 pixel)."""
    noise: Share = 0.1
    """Chance of mild noise (deviation up to 5 % of white)."""
    paste: Share = 0.0
    """Chance that a labelled defect of another image is pasted in (boxes and masks)."""
    variants: Annotated[int, Field(ge=0)] = 0
    """classify: variants of each labelled image that a head in closed form is fitted to, beside the task's views."""
    keep: Share = 0.5
    """Least share of what is labelled (pixels of a mask, number of boxes) that a crop must leave, and with it a box or
    some pixels of each class."""

    def build(self, *, tile_px: int | None = None) -> "Augment":
        """The maker of variants, of a tile of larger images where a side is given."""
        return Augment(self, tile_px=tile_px)


def policies(config: AugmentConfig) -> dict[str, AugmentConfig]:
    """Every policy that is on, alone; blur, noise and paste then always."""
    still = AugmentConfig(
        scale=(1, 1), flip_lr=False, flip_ud=False, rot90=False, light=0, blur=0, noise=0, paste=0, keep=config.keep
    )
    mirrors = {"flip_lr": config.flip_lr, "flip_ud": config.flip_ud}
    found: dict[str, Mapping[str, object]] = {
        "crop": {"scale": config.scale, "ratio": config.ratio} if config.scale[0] < 1 else {},
        "mirror": mirrors if any(mirrors.values()) else {},
        "quarter turn": {"rot90": True} if config.rot90 else {},
        "light": {"light": config.light} if config.light else {},
        "blur": {"blur": 1.0} if config.blur else {},
        "noise": {"noise": 1.0} if config.noise else {},
        "paste": {"paste": 1.0} if config.paste else {},
    }
    return {name: still.model_copy(update=changes) for name, changes in found.items() if changes}


class Augment:
    """Draws variants; the same seed gives the same one everywhere."""

    def __init__(self, config: AugmentConfig, *, tile_px: int | None = None) -> None:
        self.config, self.tile_px = config, tile_px
        steps: list[Any] = []
        if config.flip_lr:
            steps.append(A.HorizontalFlip(p=0.5))
        if config.flip_ud:
            steps.append(A.VerticalFlip(p=0.5))
        if config.rot90:
            steps.append(A.RandomRotate90(p=0.75))
        self._moves = bool(steps)
        light = config.light
        if light:
            steps.append(A.ColorJitter(light, light, light / 2, min(0.02, light), p=0.8))
        steps.append(A.GaussianBlur(sigma_limit=(0.1, 1.0), blur_limit=0, p=config.blur))
        steps.append(A.GaussNoise(std_range=(0.01, 0.05), p=config.noise))
        boxes = A.BboxParams(format="pascal_voc", label_fields=["labels"], clip=True)
        self._compose = A.Compose(steps, bbox_params=boxes if self._moves else None)

    def __call__(self, labelled: Labelled, *, seed: int, donor: Labelled | None = None) -> Labelled:
        """A variant; ``seed`` decides all that is random. ``donor`` may give a defect to paste in."""
        cv2.setNumThreads(0)  # worker processes share the cores already
        random = np.random.default_rng(seed)
        labelled = labelled if self.tile_px is None else self._tile(labelled, random)
        cropped = self._cropped(labelled, random)
        if donor is not None and random.random() < self.config.paste and (piece := cut(donor, random)):
            cropped = paste(cropped, piece, random)
        self._compose.set_random_seed(int(random.integers(2**31)))
        parts: dict[str, Any] = {"image": cropped.image}
        if self._moves:  # albumentations warns of boxes that nothing moves
            parts |= {"bboxes": cropped.boxes_K4, "labels": cropped.label_K}
        if cropped.mask is not None:
            parts["mask"] = cropped.mask
        made = self._compose(**parts)
        boxes = np.asarray(made.get("bboxes", cropped.boxes_K4), np.float32).reshape(-1, 4)
        labels = np.asarray(made.get("labels", cropped.label_K), np.int64).reshape(-1)
        return Labelled(np.ascontiguousarray(made["image"]), made.get("mask"), boxes, labels)

    def _tile(self, labelled: Labelled, random: np.random.Generator) -> Labelled:
        """A tile at random; most of the time one with something in it, where there is anything."""
        assert self.tile_px is not None
        height, width = labelled.image.shape[:2]
        h, w = min(self.tile_px, height), min(self.tile_px, width)
        found = labelled
        for _ in range(_TRIES):
            y, x = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
            if len(labelled.boxes_K4) and random.random() < _AIMED:
                x0, y0, x1, y1 = labelled.boxes_K4[random.integers(len(labelled.boxes_K4))]
                x = int(np.clip(random.uniform(x1 - w, x0) if x1 - x0 < w else x0, 0, width - w))
                y = int(np.clip(random.uniform(y1 - h, y0) if y1 - y0 < h else y0, 0, height - h))
            found = crop(labelled, x, y, x + w, y + h)
            if len(found.boxes_K4) or _pixels(found.mask).any() or random.random() > _AIMED:
                break
        return found

    def _cropped(self, labelled: Labelled, random: np.random.Generator) -> Labelled:
        if self.config.scale[0] >= 1:
            return labelled
        for _ in range(_TRIES):
            found = crop(labelled, *self._window(labelled.image.shape[:2], random))
            if _left(labelled, found) >= self.config.keep:
                return found
        return labelled

    def _window(self, shape: tuple[int, ...], random: np.random.Generator) -> tuple[int, int, int, int]:
        height, width = shape
        side = np.sqrt(random.uniform(*self.config.scale))
        stretch = np.exp(random.uniform(*np.log(self.config.ratio)) / 2)
        h = max(1, round(min(1.0, side * stretch) * height))
        w = max(1, round(min(1.0, side / stretch) * width))
        y, x = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
        return x, y, x + w, y + h


def _left(before: Labelled, after: Labelled) -> float:
    """Share of the boxes or of the labelled pixels that is left; 0 where nothing of a class is, 1 where nothing was."""
    shares = []
    if len(before.boxes_K4):
        is_lost = set(before.label_K.tolist()) > set(after.label_K.tolist())
        shares.append(0.0 if is_lost else len(after.boxes_K4) / len(before.boxes_K4))
    were, are = _pixels(before.mask), _pixels(after.mask)
    if were.any():
        is_lost = bool((are[were > 0] == 0).any())
        shares.append(0.0 if is_lost else float(are.sum() / were.sum()))
    return min(shares, default=1.0)


def _pixels(mask_HW: Pixels | None) -> NDArray[np.float64]:
    """How many pixels show each class but the background, float64[254]."""
    if mask_HW is None:
        return np.zeros(IGNORE - 1)
    return np.asarray(cv2.calcHist([mask_HW], [0], None, [IGNORE], [0, IGNORE]).ravel()[1:], np.float64)
