import numpy as np
import pytest

from pangu_cv.report.heat_map import outline, overlay

GREY = np.full((20, 30, 3), 100, np.uint8)


def test_normal_regions_keep_the_image_and_defects_glow():
    map_HW = np.full((20, 30), 0.4)
    map_HW[5:10, 5:10] = 2.0
    drawn = overlay(GREY, map_HW, threshold=1.0)
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn[12:], GREY[12:])
    red, green, blue = drawn[7, 7].astype(int)
    assert min(red, green) > 200 > blue  # yellow, the bright end
    assert (GREY == 100).all()  # the input is left alone


def test_the_change_grows_with_the_score_and_is_warm_at_the_threshold():
    map_HW = np.tile(np.linspace(0.5, 3, 30), (20, 1))
    drawn = overlay(GREY, map_HW, threshold=1.0, vmax=3.0).astype(int)
    change_W = np.abs(drawn - 100).sum(axis=2)[0]
    assert change_W[0] == 0
    assert change_W[-1] > change_W[12] > 0
    above = int(np.argmax(map_HW[0] >= 1.0))
    assert drawn[0, above, 0] > drawn[0, above, 2] + 20


def test_one_scale_gives_one_colour():
    low, high = np.full((20, 30), 1.2), np.full((20, 30), 1.2)
    high[0, 0] = 4.0
    same = [overlay(GREY, m, threshold=1.0, vmax=4.0)[10, 10] for m in (low, high)]
    np.testing.assert_array_equal(*same)


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_maps_of_zeros_and_of_broken_numbers_draw_something_valid(threshold):
    np.testing.assert_array_equal(overlay(GREY, np.zeros((20, 30)), threshold=threshold), GREY)
    broken = np.zeros((20, 30))
    broken[0, 0], broken[0, 1] = np.nan, np.inf
    np.testing.assert_array_equal(overlay(GREY, broken, threshold=threshold)[1:], GREY[1:])


def test_a_coarse_map_is_scaled_to_the_image():
    map_HW = np.zeros((2, 3), np.float32)
    map_HW[0, 0] = 5
    drawn = overlay(GREY, map_HW, threshold=1.0)
    assert drawn.shape == GREY.shape
    assert (drawn[2, 2] != 100).any()
    np.testing.assert_array_equal(drawn[-3:, -3:], GREY[-3:, -3:])


def test_outline_marks_the_edge_and_leaves_the_inside():
    mask_HW = np.zeros((20, 30), np.uint8)
    mask_HW[8:14, 8:20] = 255
    drawn = outline(GREY, mask_HW)
    np.testing.assert_array_equal(drawn[8:14, 8:20], GREY[8:14, 8:20])
    assert (drawn[7, 8:20] == (0, 229, 255)).all()
    assert (drawn[6, 10] == 0).all()
    np.testing.assert_array_equal(drawn[:4], GREY[:4])


def test_outline_of_nothing_and_of_another_size():
    np.testing.assert_array_equal(outline(GREY, np.zeros((20, 30), bool)), GREY)
    half = np.zeros((10, 15), bool)
    half[4:6, 5:8] = True
    full = np.zeros((20, 30), bool)
    full[8:12, 10:16] = True
    np.testing.assert_array_equal(outline(GREY, half), outline(GREY, full))
