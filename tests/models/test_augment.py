import numpy as np
import pytest

from pangu_cv.models.augment import AugmentConfig
from pangu_cv.models.labelled import Labelled, crop


def labelled(side: int = 60) -> Labelled:
    """A red square on grey, with its mask and its box."""
    image = np.full((side, side, 3), 128, np.uint8)
    mask = np.zeros((side, side), np.uint8)
    image[10:18, 20:32] = (255, 0, 0)
    mask[10:18, 20:32] = 1
    return Labelled(image, mask, np.array([[20, 10, 32, 18]], np.float32), np.array([3]))


STILL = AugmentConfig(light=0, blur=0, noise=0)


@pytest.mark.parametrize("seed", range(20))
def test_mask_and_boxes_move_with_the_pixels(seed: int) -> None:
    made = STILL.build()(labelled(), seed=seed)
    assert made.mask is not None
    red = made.image[..., 0] > 200
    assert np.array_equal(red, made.mask > 0)
    ys, xs = np.nonzero(red)
    assert len(made.boxes_K4) == 1
    assert made.boxes_K4[0] == pytest.approx([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    assert made.label_K.tolist() == [3]


@pytest.mark.parametrize("seed", range(20))
def test_no_crop_cuts_the_defect_away(seed: int) -> None:
    made = STILL.model_copy(update={"scale": (0.05, 0.2), "keep": 0.5}).build()(labelled(), seed=seed)
    assert made.mask is not None
    assert made.mask.sum() >= 48


@pytest.mark.parametrize("seed", range(20))
def test_every_class_keeps_a_box_or_pixels_and_all_keep_half(seed: int) -> None:
    two = labelled()
    assert two.mask is not None
    two.mask[40:44, 6:10], two.mask[:, 45:] = 2, 255
    boxes = np.array([[20, 10, 32, 18], [6, 40, 10, 44]], np.float32)
    crops = STILL.model_copy(update={"scale": (0.2, 0.4)}).build()
    boxed = crops(Labelled(two.image, None, boxes, np.array([3, 5])), seed=seed)
    assert sorted(boxed.label_K.tolist()) == [3, 5]
    masked = crops(Labelled(two.image, two.mask, boxes[:0], np.array([], np.int64)), seed=seed)
    assert masked.mask is not None
    left = [int((masked.mask == number).sum()) for number in (1, 2)]
    assert min(left) > 0
    assert sum(left) >= (96 + 16) / 2  # what nobody decided (255) counts for neither


def test_pixels_that_say_nothing_are_no_defect_to_keep_or_to_look_for() -> None:
    image, mask = labelled(200).image, labelled(200).mask
    assert mask is not None
    masks = (mask, np.where(mask == 0, 255, mask).astype(np.uint8))
    plain, open_ones = (Labelled(image, one, np.zeros((0, 4), np.float32), np.zeros(0, np.int64)) for one in masks)
    for seed in range(12):
        first, second = (STILL.build(tile_px=64)(one, seed=seed) for one in (plain, open_ones))
        assert np.array_equal(first.image, second.image)


def test_a_crop_that_never_keeps_it_is_given_up() -> None:
    wide = labelled()
    assert wide.mask is not None
    wide.mask[:] = 1
    made = STILL.model_copy(update={"scale": (0.05, 0.1), "keep": 0.9}).build()(wide, seed=0)
    assert made.image.shape == wide.image.shape


def test_same_seed_same_variant_and_another_another() -> None:
    augment = AugmentConfig().build()
    first, again, other = (augment(labelled(), seed=seed).image for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_boxes_of_which_little_is_left_are_no_longer_labelled() -> None:
    assert len(crop(labelled(), 30, 0, 60, 60).boxes_K4) == 0
    assert crop(labelled(), 24, 0, 60, 60).boxes_K4.tolist() == [[0, 10, 8, 18]]


def test_images_without_labels_are_taken_as_they_come() -> None:
    empty = Labelled(np.zeros((40, 50, 3), np.uint8), None, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    made = AugmentConfig().build()(empty, seed=4)
    assert made.boxes_K4.shape == (0, 4)
    assert made.mask is None


@pytest.mark.parametrize("seed", range(10))
def test_tiles_are_cut_at_their_own_scale_with_something_in_them(seed: int) -> None:
    whole = STILL.model_copy(update={"scale": (1.0, 1.0)})
    tile = whole.build(tile_px=32)(labelled(400), seed=seed)
    assert tile.image.shape == (32, 32, 3)
    assert tile.mask is not None
    assert tile.mask.shape == (32, 32)
    assert tile.mask.any()  # one in a hundred would be by chance
    assert whole.build(tile_px=64)(labelled(60), seed=seed).image.shape == (60, 60, 3)
