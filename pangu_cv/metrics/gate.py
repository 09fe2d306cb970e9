"""A gate measured: at a chosen recall, at the threshold its model came with, and at the least cost.

The same choice is told twice, because a threshold chosen on the images it is measured on flatters itself.
"""

from dataclasses import dataclass
from typing import Any

from pangu_cv.metrics.inspection import Costs, Inspection, Passage, Rule, at_least_cost, at_recall

SAME_IMAGES = "the threshold was chosen on the images it is measured on"
CROSS_FITTED = "each half of the images measured with the threshold that the other half chose"


@dataclass(frozen=True)
class Choice:
    """A threshold chosen on the images it is measured on, and the honest figure; None below two images of a kind."""

    same_images: Passage
    cross_fitted: Passage | None


@dataclass(frozen=True)
class Measured:
    """What the gate lets through and what it rejects; ``at_least_cost`` is None where no costs were named."""

    asked_recall: float
    at_recall: Choice
    at_own: Passage | None
    """At the threshold that the model came with."""
    costs: Costs | None
    at_least_cost: Choice | None


@dataclass(frozen=True)
class Gate:
    """An inspection with what was measured of it; None where an image of a kind is lacking."""

    inspection: Inspection
    measured: Measured | None

    def summary(self) -> dict[str, Any]:
        """Every figure, ready for ``json.dumps``; ``undefined`` says why there is none."""
        inspection, measured = self.inspection, self.measured
        defective = int(inspection.is_defect_N.sum())
        found: dict[str, Any] = {
            "score": inspection.score_is,
            "good_images": len(inspection.is_defect_N) - defective,
            "defective_images": defective,
            "undefined": inspection.undefined,
        }
        if measured is None:
            return found
        costs = measured.costs
        found["at_recall"] = {"asked_recall": measured.asked_recall} | _choice(measured.at_recall, costs)
        found["at_own_threshold"] = _passage(measured.at_own, costs) if measured.at_own else None
        if costs and measured.at_least_cost:
            found["at_least_cost"] = {
                "escape_cost": costs.escape,
                "overkill_cost": costs.overkill,
                "cost_per_1000_is_at_prevalence": inspection.prevalence,
            } | _choice(measured.at_least_cost, costs)
        return found


def gate(inspection: Inspection, *, recall: float, costs: Costs | None = None) -> Gate:
    """Measure all of it; raises ValueError for a recall that is none."""
    rule = at_recall(recall)
    if inspection.undefined:
        return Gate(inspection, None)
    own = None if inspection.own_threshold is None else inspection.at(inspection.own_threshold)
    least = _chosen(inspection, at_least_cost(costs)) if costs else None
    return Gate(inspection, Measured(recall, _chosen(inspection, rule), own, costs, least))


def _chosen(inspection: Inspection, rule: Rule) -> Choice:
    return Choice(inspection.at(rule(inspection)), inspection.cross_fitted(rule))


def _choice(choice: Choice, costs: Costs | None) -> dict[str, Any]:
    fitted = choice.cross_fitted
    return {
        "same_images": {"note": SAME_IMAGES} | _passage(choice.same_images, costs),
        "cross_fitted": None if fitted is None else {"note": CROSS_FITTED} | _passage(fitted, costs),
    }


def _passage(passage: Passage, costs: Costs | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "thresholds": list(passage.thresholds),
        "recall": passage.recall,
        "escapes": passage.escapes.as_json(),
        "overkill": passage.overkill.as_json(),
    }
    return found | ({"cost_per_1000": passage.cost_per_1000(costs)} if costs else {})
