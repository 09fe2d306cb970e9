import numpy as np
import pytest

from pangu_runtime.compare import Limits, compact, compare, from_record, recordable


def masks(mask: np.ndarray, confidence: float = 0.9) -> dict[str, np.ndarray]:
    return {"mask": mask[None].astype(np.uint8), "confidence": np.full((1, *mask.shape), confidence, np.float32)}


def plain() -> np.ndarray:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 10:30] = 1
    return mask


def test_equal_masks_do_not_differ() -> None:
    assert compare(masks(plain()), masks(plain())).to_json() == dict.fromkeys(
        ("flips", "score", "map", "mask", "box"), 0
    )


def test_a_pixel_or_two_of_rounding_do_not_count_and_more_do() -> None:
    other = plain()
    other[10, 10:12] = 0
    assert compare(masks(plain()), masks(other)).mask == 0
    other[10, 10:20] = 0
    found = compare(masks(plain()), masks(other))
    assert found.mask == pytest.approx(10 / 200)
    assert not found.within(Limits())
    assert found.flips == 0


def test_pixels_of_another_class_count_as_those_of_none() -> None:
    """Where both classes are there before and after, and the background stays."""
    mask = plain()
    mask[25:35, 10:30] = 2
    other = mask.copy()
    other[10:20, 10:20] = 2
    found = compare(masks(mask), masks(other))
    assert (found.flips, found.mask) == (0, pytest.approx(100 / 400))
    assert compare(from_record(recordable(masks(mask))), compact(masks(other))).mask > 1e-3


def test_confidence_is_compared_as_maps_are() -> None:
    sure, unsure = masks(plain()), masks(plain(), 0.6)
    assert compare(sure, unsure).map == pytest.approx(0.3)
    assert compare(from_record(recordable(sure)), compact(unsure)).map == pytest.approx(0.3)


def test_a_class_that_is_gone_is_a_flip() -> None:
    assert compare(masks(plain()), masks(np.zeros_like(plain()))).flips == 1


def test_recorded_masks_are_small_and_show_a_shift() -> None:
    record = recordable(masks(plain()))
    assert np.array(record["mask"]).shape == (2, 8, 8)
    moved = np.roll(plain(), 5, axis=1)
    assert compare(from_record(record), compact(masks(plain()))).within(Limits())
    assert not compare(from_record(record), compact(masks(moved))).within(Limits())


def boxes(*rows: tuple[float, ...], threshold: float = 0.5) -> dict[str, np.ndarray]:
    """Rows of x0, y0, x1, y1, class, score, the best first."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return {
        "boxes_xyxy": table[None, :, :4],
        "labels": table[None, :, 4].astype(np.int64),
        "scores": table[None, :, 5],
        "count": np.array([(table[:, 5] >= threshold).sum()]),
        "threshold_applied": np.array([threshold], np.float32),
    }


FIRST, SECOND = (0, 0, 10, 10, 0, 0.9), (20, 20, 40, 40, 1, 0.8)


def test_equal_boxes_in_another_order_do_not_differ() -> None:
    found = compare(boxes(FIRST, SECOND), boxes((*SECOND[:5], 0.8), FIRST))
    assert (found.flips, found.score, found.box) == (0, 0, 0)


@pytest.mark.parametrize("side", ["expected", "found", "both"])
@pytest.mark.parametrize(
    "odd", [(np.nan, 0, 10, 10, 0, 0.9), (0, 0, 10, np.inf, 0, 0.9), (0, 0, 10, 10, 0, np.nan), (*FIRST[:5], np.inf)]
)
def test_not_a_number_never_passes_as_a_box(odd: tuple[float, ...], side: str) -> None:
    broken, fine = boxes(odd, SECOND), boxes(FIRST, SECOND)
    pair = {"expected": (broken, fine), "found": (fine, broken), "both": (broken, broken)}[side]
    found = compare(*pair)
    assert (found.flips, found.score, found.box) == (1, np.inf, np.inf)
    assert not found.within(Limits())


def test_moved_boxes_and_scores_are_measured() -> None:
    found = compare(boxes(FIRST), boxes((0, 0, 10, 9, 0, 0.85)))
    assert found.box == pytest.approx(0.1, abs=1e-6)
    assert found.score == pytest.approx(0.05, abs=1e-6)
    assert found.flips == 0


@pytest.mark.parametrize(
    "other", [[FIRST], [FIRST, (20, 20, 40, 40, 0, 0.8)], [FIRST, SECOND, (60, 60, 70, 70, 0, 0.7)]]
)
def test_missing_other_and_new_boxes_are_flips(other: list[tuple[float, ...]]) -> None:
    assert compare(boxes(FIRST, SECOND), boxes(*other)).flips == 1


def test_a_box_at_the_threshold_may_fall_on_either_side() -> None:
    above, below = (0, 0, 10, 10, 0, 0.50004), (0, 0, 10, 10, 0, 0.49996)
    assert compare(boxes(above), boxes(below)).flips == 0
    assert compare(boxes(below), boxes(above)).flips == 0


def test_a_box_not_far_above_the_threshold_may_not_be_missing() -> None:
    near = (0, 0, 10, 10, 0, 0.501)
    assert compare(boxes(near), boxes()).flips == 1
    assert compare(boxes(), boxes(near)).flips == 1


def test_boxes_below_the_threshold_decide_nothing() -> None:
    assert compare(boxes(FIRST, (5, 5, 9, 9, 1, 0.3)), boxes(FIRST, (50, 50, 99, 99, 1, 0.2))).flips == 0


def test_a_moved_threshold_is_a_difference() -> None:
    assert compare(boxes(FIRST), boxes(FIRST, threshold=0.6)).score == pytest.approx(0.1)


def test_recorded_boxes_are_those_that_count() -> None:
    record = recordable(boxes(FIRST, SECOND, (5, 5, 9, 9, 1, 0.1)))
    assert len(record["scores"][0]) == 2
    assert compare(from_record(record), compact(boxes(FIRST, SECOND))).within(Limits())


def test_images_without_boxes_tell_by_their_best_score() -> None:
    low, lower = (0, 0, 10, 10, 0, 0.3), (0, 0, 10, 10, 0, 0.2)
    assert compare(boxes(low), boxes(lower)).score == pytest.approx(0.1)
    assert compare(boxes(low), boxes(low, lower)).within(Limits())
    assert compare(from_record(recordable(boxes())), boxes()).within(Limits())
    assert not compare(from_record(recordable(boxes())), boxes(low)).within(Limits())
