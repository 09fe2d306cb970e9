import base64
import io

import numpy as np
import pytest
from PIL import Image

from pangu_cv.report.picture import encode


def decoded(uri):
    kind, _, data = uri.partition(";base64,")
    return kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def test_pictures_are_scaled_down_but_never_up():
    large = encode(np.zeros((50, 200, 3), np.uint8), max_side_px=100)
    assert (large.width_px, large.height_px) == (100, 25)
    small = encode(np.zeros((5, 9, 3), np.uint8), max_side_px=100)
    assert (small.width_px, small.height_px) == (9, 5)


def test_flat_pictures_stay_exact_and_photographs_become_jpeg():
    mask = np.zeros((64, 64, 3), np.uint8)
    mask[10:20, 5:40] = 255
    kind, pixels = decoded(encode(mask, max_side_px=64).uri)
    assert kind == "data:image/png"
    np.testing.assert_array_equal(pixels, mask)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    kind, pixels = decoded(encode(noise, max_side_px=64).uri)
    assert kind == "data:image/jpeg"
    assert pixels.shape == noise.shape


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_other_arrays_are_refused(bad):
    with pytest.raises(ValueError, match="uint8 of shape"):
        encode(bad, max_side_px=10)
