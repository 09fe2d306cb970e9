import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

from pangu_cv.metrics import ClassificationOutcome
from pangu_cv.metrics.bootstrap import resampled


def outcome(n=200, c=4, seed=0):
    rng = np.random.default_rng(seed)
    truth_N = rng.integers(c, size=n)
    logits_NC = rng.normal(size=(n, c)) + 1.5 * np.eye(c)[truth_N]
    scores_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(1, keepdims=True)
    return ClassificationOutcome(
        tuple(f"class {i}" for i in range(c)), tuple(f"{i}.png" for i in range(n)), scores_NC, truth_N
    )


def test_figures_are_those_of_sklearn():
    o = outcome()
    truth, predicted = o.truth_N, o.scores_NC.argmax(1)
    np.testing.assert_array_equal(o.confusion_CC, confusion_matrix(truth, predicted))
    np.testing.assert_allclose(o.recall_per_class_C, recall_score(truth, predicted, average=None))
    assert o.balanced_accuracy == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert o.negative_log_likelihood == pytest.approx(log_loss(truth, o.scores_NC))
    assert o.accuracy == pytest.approx((truth == predicted).mean())
    assert o.macro_f1 == pytest.approx(f1_score(truth, predicted, average="macro"))
    np.testing.assert_allclose(o.precision_per_class_C, precision_score(truth, predicted, average=None))
    assert o.ranking(2).auroc == pytest.approx(roc_auc_score(truth == 2, o.scores_NC[:, 2]))


def test_figures_of_a_draw_are_those_of_the_images_drawn():
    o = outcome(n=40)
    [counts_RN] = resampled(np.arange(40), resamples=6, seed=0)
    for row, counts_N in enumerate(counts_RN):
        index = np.repeat(np.arange(40), counts_N.astype(int))
        drawn = replace(o, scores_NC=o.scores_NC[index], truth_N=o.truth_N[index])
        for name, figure in o.figures.items():
            assert figure(counts_RN)[row] == pytest.approx(getattr(drawn, name)), name


def test_intervals_hold_their_figures():
    o = outcome()
    assert list(o.intervals) == ["balanced_accuracy", "accuracy", "macro_f1"]
    for name, interval in o.intervals.items():
        assert interval.low < getattr(o, name) < interval.high
        assert interval.mean == pytest.approx(getattr(o, name))


def test_calibration_error_of_a_known_case():
    # Two bins of ten: confidence 0.9 and right half of the time, confidence 0.6 and always right.
    scores_NC = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    truth_N = np.array([0, 1] * 5 + [0] * 10)
    o = ClassificationOutcome(("a", "b"), tuple(map(str, range(20))), scores_NC, truth_N)
    assert o.expected_calibration_error() == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)
    bins = o.reliability(10)
    assert bins.count_B.tolist() == [0, 0, 0, 0, 0, 10, 0, 0, 10, 0]  # bins are closed on the right
    assert bins.accuracy_B[8] == pytest.approx(0.5)
    assert np.isnan(bins.confidence_B[0])


def test_calibration_error_is_small_when_scores_are_honest():
    rng = np.random.default_rng(1)
    p = rng.uniform(0.5, 1, 20_000)
    truth_N = (rng.uniform(size=p.size) > p).astype(int)
    o = ClassificationOutcome(("a", "b"), ("x",) * p.size, np.stack([p, 1 - p], 1), truth_N)
    assert o.expected_calibration_error() < 0.02
    assert replace(o, truth_N=1 - truth_N).expected_calibration_error() > 0.3


def test_a_class_that_does_not_occur_has_no_recall_and_does_not_count():
    o = ClassificationOutcome(("a", "b", "c"), ("x", "y"), np.eye(3)[[0, 0]], np.array([0, 1]))
    assert o.balanced_accuracy == pytest.approx(0.5)
    assert o.summary()["recall_per_class"] == [1.0, 0.0, None]


def test_one_class():
    o = ClassificationOutcome(("only",), ("x", "y"), np.ones((2, 1), np.float32), np.array([0, 0]))
    assert (o.accuracy, o.balanced_accuracy, o.negative_log_likelihood) == (1, 1, 0)
    assert o.worst_errors(5).size == 0


def test_worst_errors_are_wrong_and_sorted():
    o = outcome()
    worst = o.worst_errors(8)
    assert len(worst) == 8
    assert not o.is_correct_N[worst].any()
    assert (np.diff(o.confidence_N[worst]) <= 0).all()
    assert o.confidence_N[worst[0]] == o.confidence_N[~o.is_correct_N].max()


def test_a_certain_mistake_stays_finite_and_the_summary_is_json():
    o = ClassificationOutcome(("a", "b"), ("x",), np.array([[1.0, 0.0]]), np.array([1]))
    assert 20 < o.negative_log_likelihood < 100
    assert json.loads(json.dumps(o.summary(), allow_nan=False))["images"] == 1
    json.dumps(outcome().summary(), allow_nan=False)


@pytest.mark.parametrize(
    ("scores", "truth"),
    [
        (np.array([[0.5, 0.4]]), np.array([0])),
        (np.array([[1.5, -0.5]]), np.array([0])),
        (np.array([[np.nan, 1.0]]), np.array([0])),
        (np.array([[0.5, 0.5]]), np.array([2])),
        (np.array([[0.5, 0.5]]), np.array([0, 1])),
    ],
)
def test_malformed_outcomes_are_refused(scores, truth):
    with pytest.raises(ValueError, match=r"scores|truth"):
        ClassificationOutcome(("a", "b"), ("x",), scores, truth)


def test_an_empty_set_is_refused():
    with pytest.raises(ValueError, match="needs an image"):
        ClassificationOutcome(("a",), (), np.zeros((0, 1)), np.zeros(0, int))


def test_figures_need_no_matrix_of_images_by_classes():
    o = outcome(n=1000, c=1000)
    assert o.predicted_N.shape == o.is_correct_N.shape == (1000,)
    tracemalloc.start()
    for figure in o.figures.values():
        assert 0 < figure(np.ones((2, 1000)))[0] < 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6  # one float64 of 1000 by 1000 is 8 MB
