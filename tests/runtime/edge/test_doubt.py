import numpy as np
import pytest

from pangu_runtime.edge.doubt import certainty
from pangu_runtime.predictor import (
    AnomalyPrediction,
    BoxPrediction,
    ClassPrediction,
    MaskPrediction,
    Prediction,
    TagPrediction,
    unpack,
)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def of_class(*scores: float, threshold: float = 0.0) -> Prediction:
    return ClassPrediction("x", "a", max(scores), floats(*scores), threshold)


@pytest.mark.parametrize(
    ("sure", "doubtful"),
    [
        (of_class(0.9, 0.1), of_class(0.5, 0.45, 0.05)),
        (of_class(0.9, 0.1, threshold=0.5), of_class(0.9, 0.1, threshold=0.89)),
        (TagPrediction("x", (), floats(0.01, 0.98), 0.5), TagPrediction("x", (), floats(0.01, 0.52), 0.5)),
        (
            AnomalyPrediction("x", 0.5, False, 1.2, np.zeros((2, 2), np.float32)),
            AnomalyPrediction("x", 1.25, True, 1.2, np.zeros((2, 2), np.float32)),
        ),
        (
            BoxPrediction("x", (), floats(0.95), np.zeros((1, 4), np.float32), 0.3),
            BoxPrediction("x", (), floats(0.95, 0.31), np.zeros((2, 4), np.float32), 0.3),
        ),
        (
            MaskPrediction("x", ("-", "a"), np.ones((2, 2), np.uint8), np.full((2, 2), 0.99, np.float32)),
            MaskPrediction("x", ("-", "a"), np.eye(2, dtype=np.uint8), np.full((2, 2), 0.51, np.float32)),
        ),
    ],
)
def test_doubt_is_near_the_next_decision(sure: Prediction, doubtful: Prediction) -> None:
    assert certainty(sure) > 0.35
    assert 0 <= certainty(doubtful) < 0.1


def test_a_box_that_was_nearly_accepted_is_a_doubt() -> None:
    """Boxes as a graph gives them: the accepted first, room that is left scores 0."""
    out = {
        "boxes_xyxy": np.zeros((1, 3, 4), np.float32),
        "scores": floats(0.95, 0.499, 0)[None],
        "labels": np.zeros((1, 3), np.int64),
        "count": np.array([1]),
        "threshold_applied": floats(0.5),
    }
    near, far = (out | {"scores": floats(*scores)[None]} for scores in ((0.95, 0.499, 0), (0.95, 0, 0)))
    [doubtful], [sure] = (unpack(["x"], one, task="detect", classes=("a",)) for one in (near, far))
    assert certainty(doubtful) == pytest.approx(0.002, abs=1e-4)
    assert certainty(sure) == pytest.approx(0.9)
    assert doubtful.to_json() == sure.to_json()
    [nothing] = unpack(["x"], near | {"count": np.array([0])}, task="detect", classes=("a",))
    assert certainty(nothing) < 0.9


def test_nothing_found_is_sure() -> None:
    assert certainty(BoxPrediction("x", (), floats(), np.zeros((0, 4), np.float32), 0.3)) == 1
