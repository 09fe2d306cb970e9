import hashlib
from pathlib import Path

import numpy as np

from pangu_cv.deploy.golden_images import SIZES_HW, golden_image, write_golden_images
from pangu_runtime.decode import decode
from pangu_runtime.tiles import Tiling


def test_pictures_are_the_same_on_every_machine() -> None:
    pixels = b"".join(golden_image(n, *size).tobytes() for n, size in enumerate(SIZES_HW))
    assert hashlib.sha256(pixels).hexdigest()[:16] == "619c85347be1f2f6"


def test_pictures_differ_and_survive_the_file(tmp_path: Path) -> None:
    write_golden_images(tmp_path)
    for index, size in enumerate(SIZES_HW):
        image = decode(tmp_path / f"{index}.png")
        assert image.shape == (*size, 3)
        assert image.std() > 20
        np.testing.assert_array_equal(image, golden_image(index, *size))


def test_a_bundle_with_tiles_gets_one_that_takes_several(tmp_path: Path) -> None:
    tiling = Tiling(640, 0.5)
    write_golden_images(tmp_path, tiling=tiling)
    assert len(list(tmp_path.glob("*.png"))) == len(SIZES_HW) + 1
    assert len(tiling.windows(*decode(tmp_path / "8.png").shape[:2])) == 4
