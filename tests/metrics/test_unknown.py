import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pangu_cv.metrics.unknown import UnknownOutcome


def outcome(truth: list[int], answers: list[int]) -> UnknownOutcome:
    confidence = np.linspace(0.1, 0.9, len(truth))
    paths = tuple(f"{i}.png" for i in range(len(truth)))
    return UnknownOutcome(paths, confidence, np.array(answers), np.array(truth), 0.5, 0.1)


def test_each_share_is_of_its_own_images() -> None:
    found = outcome([0, 0, 0, 0, 1, -1, -1, -1], [0, 1, -1, 0, 1, -1, 0, -1])
    rate, right, caught = found.unknown_rate, found.accuracy_answered, found.recognised
    assert rate
    assert right
    assert caught
    assert (rate.mean, rate.n) == (0.2, 5)
    assert (right.mean, right.n) == (0.75, 4)
    assert (caught.mean, caught.n) == (pytest.approx(2 / 3), 3)
    assert found.auroc == roc_auc_score([1, 1, 1, 1, 1, 0, 0, 0], found.confidence_N)
    summary = json.loads(json.dumps(found.summary(), allow_nan=False))
    assert summary["coverage"] == pytest.approx(0.8)
    assert summary["should_be_unknown"] == 3
    assert summary["unknown_rate"]["low"] < 0.2 < summary["unknown_rate"]["high"]


def test_shares_of_nothing_are_none() -> None:
    all_unknown = outcome([0, 1], [-1, -1])
    assert all_unknown.accuracy_answered is None
    assert all_unknown.recognised is None
    assert all_unknown.auroc is None
    assert outcome([-1], [-1]).unknown_rate is None
    assert outcome([-1], [-1]).summary()["coverage"] is None


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="answer_N"):
        UnknownOutcome(("a",), np.zeros(1), np.zeros(2, int), np.zeros(1, int), 0.5, 0.1)
