"""Generated pictures that a bundle carries to prove, anywhere, that it still decides as certified."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pangu_runtime.tiles import Tiling

SIZES_HW = ((224, 224), (96, 160), (301, 217), (64, 64), (180, 320), (256, 256), (333, 129), (200, 150))


def write_golden_images(folder: Path, *, tiling: Tiling | None = None) -> None:
    """Write ``0.png`` to ``7.png``: gradients, textures and shapes of several sizes, always the same.

    A bundle with tiles gets one more that is larger than a tile, so that its answer covers the merging.
    """
    folder.mkdir(parents=True, exist_ok=True)
    larger = () if tiling is None else ((tiling.px * 5 // 4, tiling.px * 4 // 3),)
    for index, (height, width) in enumerate(SIZES_HW + larger):
        Image.fromarray(golden_image(index, height, width)).save(folder / f"{index}.png")


def golden_image(index: int, height: int, width: int) -> NDArray[np.uint8]:
    """uint8[height,width,3] from integer arithmetic alone, so that it is the same on every machine."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    red = (x * 255 // width + index * 31) % 256
    green = (y * 255 // height + (x * y // 64 * (index % 3))) % 256
    blue = ((x // (4 + index) + y // (5 + index)) % 2) * 160 + 40
    spot = (x - width // 2) ** 2 + (y - height // 3) ** 2 < (min(height, width) // (3 + index % 4)) ** 2
    image = np.stack([red, green, blue], -1)
    image[spot] = image[spot][:, ::-1] // 2
    noise = (x * 7919 + y * 104729 + index * 1299709) * 2654435761 % 2**32 >> 27
    return np.asarray((image + noise[..., None]).clip(0, 255), np.uint8)
