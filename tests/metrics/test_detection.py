import numpy as np
import pytest

from pangu_cv.metrics.detection import DetectionOutcome, Found, iou


def found(*rows: tuple[float, ...]) -> Found:
    """Rows of x0, y0, x1, y1, class, score."""
    table = np.array(rows, float).reshape(-1, 6)
    return Found(table[:, :4], table[:, 4].astype(int), table[:, 5])


def outcome(*pairs: tuple[Found, Found], threshold: float = 0.5) -> DetectionOutcome:
    paths = tuple(str(n) for n in range(len(pairs)))
    return DetectionOutcome(
        ("a", "b"), paths, ((100, 100),) * len(pairs), tuple(p[0] for p in pairs), tuple(p[1] for p in pairs), threshold
    )


TRUE = found((10, 10, 30, 30, 0, 1), (50, 50, 90, 90, 1, 1))


def test_perfect_boxes() -> None:
    made = outcome((TRUE, TRUE), (TRUE, TRUE))
    assert (made.ap, made.ap50, made.recall, made.precision) == pytest.approx((1, 1, 1, 1))
    assert made.summary()["ap_per_class"] == pytest.approx([1, 1])


def test_half_of_one_class_is_missed() -> None:
    made = outcome((TRUE, TRUE), (found((50, 50, 90, 90, 1, 0.9)), TRUE))
    assert made.ap_C(0.5) == pytest.approx([51 / 101, 1])
    assert (made.recall, made.precision) == (0.75, 1.0)
    assert made.hits_N3.tolist() == [[2, 2, 2], [1, 2, 1]]


def test_a_box_is_hit_once_and_by_its_own_class() -> None:
    twice = found((10, 10, 30, 30, 0, 0.9), (10, 10, 30, 29, 0, 0.8), (50, 50, 90, 90, 0, 0.7))
    assert outcome((twice, TRUE)).hits_N3.tolist() == [[1, 2, 3]]


def test_looser_boxes_count_less() -> None:
    loose = found((10, 10, 30, 24, 0, 0.9), (50, 50, 90, 90, 1, 0.9))
    made = outcome((loose, TRUE))
    assert made.ap50 == pytest.approx(1)
    assert made.ap == pytest.approx((0.5 + 1) / 2)  # IoU 0.7: five of ten limits


def test_boxes_of_an_overlap_of_72_percent_are_hits_up_to_70():
    made = outcome((found((10, 10, 30, 24.4, 0, 0.9), (50, 50, 90, 78.8, 1, 0.9)), TRUE))
    assert made.summary()["ap75"] == 0
    assert made.ap_C(0.7) == pytest.approx([1, 1])


def test_threshold_decides_what_counts_as_found() -> None:
    doubtful = found((10, 10, 30, 30, 0, 0.4), (50, 50, 90, 90, 1, 0.9))
    made = outcome((doubtful, TRUE))
    assert made.ap50 == pytest.approx(1)
    assert made.recall == 0.5


def test_nothing_found_and_nothing_there() -> None:
    nothing = found()
    made = outcome((nothing, TRUE), (nothing, nothing))
    assert (made.ap, made.recall, made.precision) == (0.0, 0.0, None)
    empty = outcome((nothing, nothing))
    assert empty.summary()["ap_per_class"] == [None, None]


def test_iou() -> None:
    found = iou(np.array([[0, 0, 10, 10]]), np.array([[5, 0, 15, 10], [20, 20, 30, 30]]))
    assert found == pytest.approx(np.array([[1 / 3, 0]]))


def test_scores_are_held_against_the_share_that_is_true():
    half = found((10, 10, 30, 30, 0, 0.75), (60, 10, 80, 30, 0, 0.75), (60, 60, 80, 80, 0, 0.01))
    stats = outcome((half, TRUE), (half, TRUE)).score_reliability(10)
    assert stats.count_B.sum() == 4  # what scores below 0.05 is no claim
    assert (stats.confidence_B[7], stats.accuracy_B[7]) == pytest.approx((0.75, 0.5))
    assert stats.expected_error == pytest.approx(0.25)


def test_f1_of_every_image():
    made = outcome((TRUE, TRUE), (found((50, 50, 90, 90, 1, 0.9)), TRUE), (found(), found()), (TRUE, found()))
    assert made.f1_per_image_N == pytest.approx([1, 2 / 3, 1, 0])
    assert made.intervals["f1"].mean == pytest.approx(2 * 3 / (4 + 5))


def in_a_row(count: int) -> Found:
    """Boxes of class 0 side by side, the surest first."""
    left = np.arange(count) * 12.0
    boxes_K4 = np.stack([left, np.zeros(count), left + 10, np.full(count, 10.0)], axis=1)
    return Found(boxes_K4, np.zeros(count, int), np.linspace(0.99, 0.6, count))


def test_boxes_beyond_the_hundred_of_coco_count() -> None:
    many = in_a_row(150)
    made = outcome((many, many))
    assert made.most_found == 150
    assert (made.recall, made.precision, made.ap, made.ap50) == pytest.approx((1, 1, 1, 1))
    assert made.figures["ap"](np.ones((1, 1))) == pytest.approx(1)
    assert made.score_reliability().count_B.sum() == 150


def test_without_a_true_box_average_precision_is_undefined() -> None:
    for seen in (found(), TRUE):
        made = outcome((seen, found()), (found(), found()))
        summary = made.summary()
        assert (made.ap, made.ap50, made.recall) == (None, None, None)
        assert [summary[name] for name in ("ap", "ap50", "ap75")] == [None] * 3
        assert [summary["intervals"][name] for name in ("ap", "ap50")] == [None] * 2
