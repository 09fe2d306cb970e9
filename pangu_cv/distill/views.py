"""Unlabelled images and variants of them, each made the same way whenever it is asked for.

Rows number them: row ``image * variants + number``; number 0 is the image as it is. Shapes: H×W pixels.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pangu_cv.models.augment import Augment, AugmentConfig
from pangu_cv.models.labelled import Labelled
from pangu_runtime.decode import DecodeSpec, decode

_KEPT_BYTES = 2**30
_STILL = {"scale": (1.0, 1.0), "flip_lr": False, "flip_ud": False, "rot90": False}


@dataclass(frozen=True)
class Views:
    """What is shown to teacher and student of the images at ``paths``, which can be read."""

    paths: tuple[Path, ...]
    spec: DecodeSpec
    augment: AugmentConfig
    variants: int
    tile_px: int | None = None
    _kept: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.paths) * self.variants

    def image(self, row: int) -> NDArray[np.uint8]:
        """uint8[H,W,3]; kept as long as there is room, since every input side asks for it again."""
        if row not in self._kept:
            made = self._variant(row)
            if (len(self._kept) + 1) * made.nbytes > _KEPT_BYTES:
                return made
            self._kept[row] = made
        return self._kept[row]

    def _variant(self, row: int) -> NDArray[np.uint8]:
        place, number = divmod(row, self.variants)
        shown = unlabelled(self.paths[place], self.spec)
        if number == 0 and self.tile_px is None:
            return shown.image
        augment = self.augment if number else still(self.augment, light=0)
        return self._made(augment, shown, place, number)

    def shaken(self, place: int, *, seed: int) -> NDArray[np.uint8]:
        """An image in another light, nothing in it moved."""
        shown = unlabelled(self.paths[place], self.spec)
        return self._made(still(self.augment, light=max(self.augment.light, 0.2)), shown, place, seed)

    def _made(self, config: AugmentConfig, shown: Labelled, place: int, number: int) -> NDArray[np.uint8]:
        seed = number * 7919 + zlib.crc32(self.paths[place].name.encode())
        return Augment(config, tile_px=self.tile_px)(shown, seed=seed).image

    def prepared(self, rows: Sequence[int], preprocess: nn.Module) -> Tensor:
        """float32[B,3,S,S] through the model's own resize."""
        return torch.cat([preprocess(torch.from_numpy(self.image(row))[None]) for row in rows])


def still(config: AugmentConfig, *, light: float) -> AugmentConfig:
    """The same without what moves anything; with no light nothing is changed at all."""
    quiet = {} if light else {"blur": 0.0, "noise": 0.0}
    return config.model_copy(update={**_STILL, "light": light, "paste": 0.0, **quiet})


def unlabelled(path: Path, spec: DecodeSpec) -> Labelled:
    """An image without boxes and mask; raises ImageError."""
    return Labelled(decode(path, spec=spec), None, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
