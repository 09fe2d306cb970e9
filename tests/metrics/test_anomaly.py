import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from pangu_cv.metrics import AnomalyOutcome, PixelScores


def outcome(n=60, seed=0):
    rng = np.random.default_rng(seed)
    is_defect_N = np.arange(n) % 3 == 0
    scores_N = rng.normal(size=n).round(1) + 1.5 * is_defect_N  # rounded: ties occur
    kinds = tuple(("good", "scratch", "dent")[0 if not d else 1 + i % 2] for i, d in enumerate(is_defect_N))
    return AnomalyOutcome(
        paths=tuple(f"{i}.png" for i in range(n)),
        scores_N=scores_N,
        is_defect_N=is_defect_N,
        is_anomalous_N=scores_N > 1.0,
        threshold=1.0,
        defect_N=kinds,
        asked_false_alarm_rate=0.05,
    )


def test_ranking_is_that_of_sklearn():
    o = outcome()
    assert o.image_auroc == pytest.approx(roc_auc_score(o.is_defect_N, o.scores_N))
    assert o.average_precision == pytest.approx(average_precision_score(o.is_defect_N, o.scores_N))


def test_rates_follow_the_decisions_not_the_scores():
    o = replace(outcome(), is_anomalous_N=np.arange(60) < 6)  # 0..5: two defects, four normal images
    assert o.false_alarm_rate == pytest.approx(4 / 40)
    assert o.recall == pytest.approx(2 / 20)
    assert o.miss_rate == pytest.approx(18 / 20)
    assert o.false_alarm_interval.n == 40
    assert 0.1 in o.false_alarm_interval
    assert 0.3 not in o.false_alarm_interval


def test_recall_per_defect_leaves_the_good_ones_out():
    o = outcome()
    per_defect = o.recall_per_defect
    assert list(per_defect) == ["dent", "scratch"]
    assert sum(i.mean * i.n for i in per_defect.values()) == pytest.approx(o.recall * 20)


def test_no_defects_leaves_undefined_what_needs_them():
    o = outcome()
    o = replace(o, is_defect_N=np.zeros(60, bool), defect_N=("good",) * 60)
    assert (o.image_auroc, o.average_precision, o.recall, o.miss_rate) == (None,) * 4
    assert o.recall_per_defect == {}
    assert o.false_alarm_rate == o.is_anomalous_N.mean()


def test_only_defects_leaves_false_alarms_undefined():
    o = replace(outcome(), is_defect_N=np.ones(60, bool))
    assert (o.image_auroc, o.false_alarm_rate, o.false_alarm_interval) == (None,) * 3
    assert o.recall == o.is_anomalous_N.mean()


def test_all_scores_equal_rank_nothing():
    assert replace(outcome(), scores_N=np.ones(60)).image_auroc == 0.5


def test_summary_is_json_with_and_without_pixels():
    o = outcome()
    assert json.loads(json.dumps(o.summary(), allow_nan=False))["pixel_auroc"] is None
    with_pixels = replace(o, pixels=PixelScores(0.9, 0.4, 1e-6, 100, 10))
    assert json.loads(json.dumps(with_pixels.summary(), allow_nan=False))["pixel_auroc"] == 0.9


@pytest.mark.parametrize(
    "change",
    [
        {"scores_N": np.full(60, np.nan)},
        {"is_defect_N": np.zeros(60, int)},
        {"is_anomalous_N": np.zeros(59, bool)},
        {"defect_N": ("good",)},
        {"threshold": float("inf")},
        {"paths": ()},
    ],
)
def test_malformed_outcomes_are_refused(change):
    with pytest.raises(ValueError, match=r"finite|boolean|need"):
        replace(outcome(), **change)
