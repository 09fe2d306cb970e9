import json

import numpy as np
import pytest

from pangu_cv.metrics.gate import gate
from pangu_cv.metrics.inspection import Costs, Inspection, at_least_cost, at_recall


def inspection(n=60, **more):
    random = np.random.default_rng(0)
    is_defect_N = np.arange(n) % 3 == 0
    return Inspection(random.uniform(size=n) + 0.7 * is_defect_N, is_defect_N, "a score", **more)


def test_every_choice_says_where_it_was_made():
    o, costs = inspection(own_threshold=0.9), Costs(100, 1)
    found = gate(o, recall=0.9, costs=costs).summary()
    json.dumps(found, allow_nan=False)
    assert (found["good_images"], found["defective_images"], found["undefined"]) == (40, 20, None)
    for choice, rule in ((found["at_recall"], at_recall(0.9)), (found["at_least_cost"], at_least_cost(costs))):
        assert "the images it is measured on" in choice["same_images"]["note"]
        assert "the other half chose" in choice["cross_fitted"]["note"]
        assert choice["cross_fitted"]["cost_per_1000"] == o.cross_fitted(rule).cost_per_1000(costs)
    least = min(o.at(threshold).cost_per_1000(costs) for threshold in o.curve.threshold_S)
    assert found["at_least_cost"]["same_images"]["cost_per_1000"] == pytest.approx(least)
    assert found["at_recall"]["same_images"]["cost_per_1000"] > 1.1 * least
    assert found["at_recall"]["asked_recall"] == 0.9
    assert found["at_recall"]["same_images"]["recall"] >= 0.9
    assert found["at_least_cost"]["cost_per_1000_is_at_prevalence"] == pytest.approx(1 / 3)
    assert found["at_own_threshold"]["thresholds"] == [0.9]
    assert found["at_own_threshold"]["overkill"]["n"] == 40


def test_without_costs_none_are_told():
    found = gate(inspection(), recall=0.9).summary()
    assert "at_least_cost" not in found
    assert "cost_per_1000" not in found["at_recall"]["same_images"]
    assert found["at_own_threshold"] is None


def test_too_few_images_of_a_kind_are_not_halved():
    lonely = Inspection(np.array([0.1, 0.2, 0.9]), np.array([False, False, True]), "a score")
    found = gate(lonely, recall=1.0, costs=Costs(1, 1)).summary()
    assert found["at_recall"]["cross_fitted"] is None
    assert found["at_recall"]["same_images"]["overkill"]["mean"] == 0


def test_one_kind_alone_is_said():
    only_good = Inspection(np.ones(4), np.zeros(4, bool), "a score")
    found = gate(only_good, recall=0.95, costs=Costs(1, 1))
    assert found.measured is None
    assert "no defective image" in found.summary()["undefined"]
    with pytest.raises(ValueError, match="recall"):
        gate(only_good, recall=2.0)
