import numpy as np
import pytest

from pangu_cv.models.augment import AugmentConfig
from pangu_cv.models.copy_paste import cut, paste
from pangu_cv.models.labelled import Labelled

NO_BOXES, NO_LABELS = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)


def image(level: int, side: int = 80) -> np.ndarray:
    return np.full((side, side, 3), level, np.uint8)


def boxed(level: int = 100) -> Labelled:
    """A square brighter than its surroundings by 60."""
    pixels = image(level)
    pixels[20:32, 30:46] += 60
    return Labelled(pixels, None, np.array([[30, 20, 46, 32]], np.float32), np.array([2]))


def masked(level: int = 100) -> Labelled:
    """Two defects of classes 1 and 2, and pixels that say nothing."""
    pixels, mask = image(level), np.zeros((80, 80), np.uint8)
    pixels[10:14, 10:40] += 60
    mask[10:14, 10:40], mask[50:60, 50:60], mask[70:, :] = 1, 2, 255
    return Labelled(pixels, mask, NO_BOXES, NO_LABELS)


@pytest.mark.parametrize("seed", range(10))
def test_a_pasted_box_lies_on_its_defect_and_touches_no_other(seed: int) -> None:
    random = np.random.default_rng(seed)
    piece = cut(boxed(), random)
    assert piece is not None
    target = boxed(40)
    made = paste(target, piece, random)
    assert made.label_K.tolist() == [2, 2]
    x0, y0, x1, y1 = made.boxes_K4[1].astype(int)
    assert (x1 - x0, y1 - y0) == (16, 12)
    # 40 of the new surroundings + 60: brightness has moved with them (the other defect may stand in them).
    assert (made.image[y0:y1, x0:x1].astype(int) >= 100).all()
    assert (made.image[y0:y1, x0:x1].astype(int) <= 120).all()
    assert (made.image[20:32, 30:46] == 100).all()  # what was there is whole
    assert (target.image != made.image).any(2).sum() < 40 * 30  # the rest is as it was


@pytest.mark.parametrize("seed", range(10))
def test_a_pasted_mask_keeps_its_class_and_covers_no_other(seed: int) -> None:
    random = np.random.default_rng(seed)
    piece, target = cut(masked(), random), masked(30)
    assert piece is not None
    assert target.mask is not None
    made = paste(target, piece, random)
    assert made.mask is not None
    before, after = (np.bincount(mask.ravel(), minlength=256) for mask in (target.mask, made.mask))
    grown = {value: after[value] - before[value] for value in (1, 2)}
    assert grown in ({1: 120, 2: 0}, {1: 0, 2: 100})
    assert (made.mask[target.mask > 0] == target.mask[target.mask > 0]).all()


def test_a_box_takes_along_what_is_inside_it() -> None:
    boxes = np.array([[20, 20, 60, 60], [30, 30, 40, 40]], np.float32)
    nested = Labelled(image(90), None, boxes, np.array([0, 1]))
    target = Labelled(image(9, side=160), None, NO_BOXES, NO_LABELS)
    found = {}
    for seed in range(12):
        random = np.random.default_rng(seed)
        piece = cut(nested, random)
        assert piece is not None
        made = paste(target, piece, random)
        found[tuple(made.label_K.tolist())] = (made.boxes_K4[:, 2:] - made.boxes_K4[:, :2]).tolist()
    assert found == {(0, 1): [[40, 40], [10, 10]], (1,): [[10, 10]]}


def test_a_box_that_would_cut_another_apart_is_left() -> None:
    boxes = np.array([[20, 20, 60, 60], [40, 40, 70, 70]], np.float32)
    crossing = Labelled(image(90), None, boxes, np.array([0, 1]))
    assert all(cut(crossing, np.random.default_rng(seed)) is None for seed in range(6))


def test_without_room_or_defect_nothing_happens() -> None:
    random = np.random.default_rng(0)
    full = Labelled(image(9), np.full((80, 80), 1, np.uint8), NO_BOXES, NO_LABELS)
    piece = cut(masked(), random)
    assert piece is not None
    assert paste(full, piece, random) is full
    small = Labelled(image(9, side=8), np.zeros((8, 8), np.uint8), NO_BOXES, NO_LABELS)
    assert paste(small, piece, random) is small
    assert cut(small, random) is None
    assert cut(Labelled(image(9), None, NO_BOXES, NO_LABELS), random) is None


def test_augment_pastes_as_often_as_it_is_told() -> None:
    still = AugmentConfig(scale=(1, 1), light=0, blur=0, noise=0, flip_lr=False, flip_ud=False, rot90=False)
    never, always = still.build(), still.model_copy(update={"paste": 1.0}).build()
    assert len(never(boxed(40), seed=1, donor=boxed()).boxes_K4) == 1
    assert len(always(boxed(40), seed=1, donor=boxed()).boxes_K4) == 2
    assert len(always(boxed(40), seed=1).boxes_K4) == 1
