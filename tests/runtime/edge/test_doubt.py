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


def test_nothing_found_is_sure() -> None:
    assert certainty(BoxPrediction("x", (), floats(), np.zeros((0, 4), np.float32), 0.3)) == 1
