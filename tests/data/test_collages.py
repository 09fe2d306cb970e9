import numpy as np
import pytest

from pangu_cv.data.collages import collage

RANDOM = np.random.default_rng(0)
PICTURES = [
    RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in ((40, 90), (64, 64), (9, 8))
]


def test_seed_decides_everything() -> None:
    first, again, other = (collage(PICTURES, side_px=64, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("side_px", [32, 100])
def test_collages_have_the_side_asked_for_and_many_values(side_px: int) -> None:
    for seed in range(12):
        found = collage(PICTURES, side_px=side_px, seed=seed)
        assert found.shape == (side_px, side_px, 3)
        assert found.dtype == np.uint8
        assert len(np.unique(found)) > 20


def test_pieces_are_of_the_pictures() -> None:
    """Where all pictures are one blue, most of a collage has one tone per piece."""
    blue = np.zeros((32, 32, 3), np.uint8)
    blue[..., 2] = 255
    flat = [np.ptp(collage([blue], side_px=48, seed=seed)[0, :2].astype(int), axis=0).max() for seed in range(40)]
    assert np.mean(np.array(flat) == 0) > 0.5
