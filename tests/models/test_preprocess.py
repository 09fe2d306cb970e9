import numpy as np
import pytest
import torch
from PIL import Image

from pangu_cv.models.preprocess import PreprocessConfig

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)


def pixels(height: int, width: int, *, count: int = 1) -> torch.Tensor:
    rng = np.random.default_rng(height * width)
    return torch.from_numpy(rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(1, 1), (30, 90), (200, 64), (64, 64), (5, 400)])
def test_equals_torchs_antialiased_resize(interpolation: str, size: tuple[int, int]) -> None:
    image = pixels(*size)
    found = PreprocessConfig(image_px=64, interpolation=interpolation).build(mean=MEAN, std=STD)(image)
    resized = torch.nn.functional.interpolate(
        image.permute(0, 3, 1, 2).double(), (64, 64), mode=interpolation, antialias=True
    )
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (MEAN, STD))
    torch.testing.assert_close(found, ((resized.clamp(0, 255) / 255 - mean) / std).float(), atol=1e-4, rtol=1e-4)


def test_resize_is_antialiased_as_pillow_is() -> None:
    image = pixels(300, 200)
    found = PreprocessConfig(image_px=50).build(mean=(0, 0, 0), std=(1, 1, 1))(image)[0] * 255
    pillow = np.asarray(Image.fromarray(image[0].numpy()).resize((50, 50), Image.Resampling.BICUBIC), np.float32)
    assert float((found.permute(1, 2, 0) - torch.from_numpy(pillow.copy())).abs().max()) < 2


def test_batch_does_not_change_an_image() -> None:
    batch = pixels(77, 41, count=5)
    module = PreprocessConfig(image_px=48).build(mean=MEAN, std=STD)
    together = module(batch)
    assert together.shape == (5, 3, 48, 48)
    assert together.dtype == torch.float32
    for row in range(5):
        assert torch.equal(together[row], module(batch[row : row + 1])[0])


def test_black_and_white_stay_in_range() -> None:
    edge = torch.zeros(1, 40, 40, 3, dtype=torch.uint8)
    edge[:, :, 20:] = 255
    found = PreprocessConfig(image_px=64).build(mean=(0, 0, 0), std=(1, 1, 1))(edge)
    assert (float(found.min()), float(found.max())) == (0, 1)  # cubic would overshoot


def test_image_of_the_right_size_is_not_touched() -> None:
    image = pixels(64, 64)
    found = PreprocessConfig(image_px=64).build(mean=(0, 0, 0), std=(1, 1, 1))(image)
    torch.testing.assert_close(found, image.permute(0, 3, 1, 2) / 255, atol=1e-6, rtol=0)
