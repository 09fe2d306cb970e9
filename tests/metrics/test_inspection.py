from dataclasses import replace

import numpy as np
import pytest

from pangu_cv.metrics.inspection import Costs, Inspection, at_least_cost, at_recall


def inspection(goods, defects):
    scores_N = np.array([*goods, *defects], float)
    return Inspection(scores_N, np.arange(len(scores_N)) >= len(goods), "a score")


def noisy(n=400, seed=0, gap=1.5):
    random = np.random.default_rng(seed)
    is_defect_N = np.arange(n) % 4 == 0
    return Inspection(np.exp(random.normal(size=n) + gap * is_defect_N), is_defect_N, "a score")


def test_the_curve_goes_from_nothing_rejected_to_everything():
    curve = inspection([0.1, 0.2, 0.6], [0.5, 0.6]).curve
    assert curve.escapes_S == pytest.approx([1, 0.5, 0, 0, 0])
    assert curve.overkill_S == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 1])
    assert curve.threshold_S[1:-1] == pytest.approx([0.55, 0.35, 0.15])
    assert curve.threshold_S[0] > 0.6
    assert curve.threshold_S[-1] < 0.1


def test_every_point_of_the_curve_is_what_its_threshold_gives():
    o = noisy(80)
    for threshold, escapes, overkill in zip(*vars(o.curve).values(), strict=True):
        there = o.at(threshold)
        assert (there.escapes.mean, there.overkill.mean) == pytest.approx((escapes, overkill))
        assert there.recall == pytest.approx(1 - escapes)


@pytest.mark.parametrize("recall", [0.5, 0.8, 0.95, 1.0])
def test_asked_recall_is_reached_with_the_highest_threshold(recall):
    o = noisy()
    threshold = at_recall(recall)(o)
    assert o.at(threshold).recall >= recall
    higher = o.curve.threshold_S[o.curve.threshold_S > threshold]
    assert all(o.at(t).recall < recall for t in higher)


def test_recall_of_95_percent_of_20_is_19():
    o = inspection([0.1], np.linspace(1, 2, 20))
    assert o.at(at_recall(0.95)(o)).escapes.mean == pytest.approx(1 / 20)


@pytest.mark.parametrize("prices", [(100, 1), (1, 1), (1, 100), (1, 0), (0, 1)])
def test_no_threshold_costs_less(prices):
    o, costs = noisy(120), Costs(*prices)
    least = o.at(at_least_cost(costs)(o)).cost_per_1000(costs)
    assert least == pytest.approx(min(o.at(t).cost_per_1000(costs) for t in o.curve.threshold_S))


def test_of_thresholds_that_cost_the_same_the_one_with_fewer_escapes_is_taken():
    o = inspection([0.1, 0.3], [0.2, 0.5, 0.8])
    found = o.at(at_least_cost(Costs(0, 1))(o))
    assert (found.overkill.mean, found.escapes.mean) == pytest.approx((0, 1 / 3))


def test_dear_escapes_lower_the_threshold():
    o = noisy()
    dear, cheap = (at_least_cost(Costs(escape, 1))(o) for escape in (100, 0.1))
    assert dear < cheap


def test_cost_per_1000_is_counted_at_the_prevalence_of_the_set():
    o = inspection([0.1, 0.2, 0.9, 0.3, 0.1, 0.2], [0.5, 0.8])
    assert o.prevalence == 0.25
    assert o.at(0.6).cost_per_1000(Costs(100, 1)) == pytest.approx(1000 * (100 * 1 + 1 * 1) / 8)


def test_cross_fitting_measures_every_image_once_and_is_less_flattering():
    flattering, honest = [], []
    for seed in range(30):
        o = noisy(60, seed=seed)
        rule = at_least_cost(Costs(3, 1))
        fitted = o.cross_fitted(rule)
        assert (fitted.escapes.n, fitted.overkill.n) == (15, 45)
        assert len(fitted.thresholds) <= 2
        flattering.append(o.at(rule(o)).cost_per_1000(Costs(3, 1)))
        honest.append(fitted.cost_per_1000(Costs(3, 1)))
    assert np.mean(honest) > np.mean(flattering)


def test_each_half_is_measured_with_the_other_halfs_threshold():
    o = inspection([1, 2, 3, 4], [5, 6, 7, 8])
    halves = []

    def rule(half):
        halves.append(set(half.scores_N))
        return 0.0 if len(halves) == 1 else 100.0

    found = o.cross_fitted(rule)
    assert halves[0] | halves[1] == set(o.scores_N)
    assert not halves[0] & halves[1]
    assert (found.escapes.mean, found.overkill.mean) == (0.5, 0.5)
    assert found.thresholds == (0, 100)


def test_one_kind_alone_is_said_and_not_measured():
    o = noisy(8)
    only_good = replace(o, is_defect_N=np.zeros(8, bool))
    only_bad = replace(o, is_defect_N=np.ones(8, bool))
    assert "no defective image" in only_good.undefined
    assert "no good image" in only_bad.undefined
    assert o.undefined is None
    assert only_good.cross_fitted(at_recall(0.9)) is None
    with pytest.raises(ValueError, match="no good image"):
        only_bad.at(0.5)


def test_images_that_all_score_nothing_are_all_rejected_or_none():
    o = inspection([0, 0, 0], [0, 0])
    there = o.at(at_recall(0.95)(o))
    assert (there.recall, there.overkill.mean) == (1, 1)
    assert o.at(o.curve.threshold_S[0]).recall == 0


@pytest.mark.parametrize(
    "wrong", [lambda: at_recall(0), lambda: at_recall(1.1), lambda: Costs(-1, 1), lambda: Costs(0, 0)]
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match=r"recall|costs"):
        wrong()
