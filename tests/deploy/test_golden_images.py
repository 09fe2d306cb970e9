import hashlib
from pathlib import Path

import numpy as np

from pangu_cv.deploy.golden_images import SIZES_HW, golden_image, write_golden_images
from pangu_runtime.decode import decode


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
