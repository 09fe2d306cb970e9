"""What the one model is held against: every model by itself, the best of them, all of them together.

All are measured on the same images and on all classes: a model that does not know a class is wrong about its images.
The best single model is the one that was best on the images that choose, not on those that measure.

Shapes: N images, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pangu_cv.iterate.fuse.costs import Cost
from pangu_cv.iterate.fuse.distil import GraphConfig
from pangu_cv.iterate.fuse.ensemble import Floats, ensemble
from pangu_cv.iterate.fuse.evidence import Evidence
from pangu_cv.iterate.fuse.gathering import Fused, Gathering
from pangu_cv.iterate.fuse.graph import beside, carried, weights_of
from pangu_cv.iterate.fuse.student import blank, decided
from pangu_cv.metrics import ClassificationOutcome
from pangu_cv.metrics.paired import Comparison, paired

ENSEMBLE, WEIGHTED, LABELS, FUSED = "ensemble", "weighted ensemble", "labels alone", "fused"


@dataclass(frozen=True, eq=False)
class Bounds:
    """Decisions float64[N,C] by name; outcomes where there are labels, and those of the one model against them."""

    evidence: Evidence
    scores: Mapping[str, Floats]
    outcomes: Mapping[str, ClassificationOutcome]
    against: Mapping[str, Comparison]
    best: str
    together: Cost
    one: Cost
    is_flattering: bool

    @property
    def same(self) -> float:
        """Share of images that the one model decides as the ensemble does."""
        return float((self.scores[FUSED].argmax(1) == self.scores[ENSEMBLE].argmax(1)).mean())

    @property
    def lost(self) -> float | None:
        """Balanced accuracy of the ensemble less that of the one model; None without labels."""
        if not self.outcomes:
            return None
        return self.outcomes[ENSEMBLE].balanced_accuracy - self.outcomes[FUSED].balanced_accuracy

    @property
    def ratios(self) -> dict[str, float]:
        """Of the one model's costs to those of all together."""
        one, together = self.one, self.together
        return {
            "gflop": one.gflop / together.gflop,
            "ms": one.ms / together.ms,
            "params": one.params_m / together.params_m,
        }

    def as_json(self) -> dict[str, Any]:
        """For ``metrics.json``."""
        return {
            "images": len(self.evidence.samples),
            "measured_on_what_chose": self.is_flattering,
            "best_single": self.best,
            "decided_as_the_ensemble": self.same,
            "balanced_accuracy": {name: one.balanced_accuracy for name, one in self.outcomes.items()},
            "outcomes": {name: one.summary() for name, one in self.outcomes.items()},
            "against": {name: one.summary() for name, one in self.against.items()},
            "lost_to_the_ensemble": self.lost,
            "cost": {"ensemble": self.together.as_json(), "fused": self.one.as_json(), "ratio": self.ratios},
        }


def bounds(
    gathering: Gathering,
    fused: Fused,
    measured: Evidence,
    *,
    messages: GraphConfig,
    costs: tuple[Cost, Cost],
    is_flattering: bool,
) -> Bounds:
    """Measure; figures need labels, without them it is only said how often decisions agree."""
    scores: dict[str, Floats] = {
        member.name: scores_NC for member, scores_NC in zip(gathering.members, measured.scores_MNC, strict=True)
    }
    best = gathering.members[gathering.best].name
    scores[ENSEMBLE] = measured.ensemble_NC
    if fused.beliefs_NC is not None:
        scores[WEIGHTED] = _weighted(gathering, fused.beliefs_NC, measured, messages)
    if (alone := _labels_alone(gathering, measured)) is not None:
        scores[LABELS] = alone
    if is_flattering and fused.left_out_NC is not None:
        scores[FUSED] = fused.left_out_NC
    else:
        own = decided(fused.model, measured.paths, gathering.reader, about="the fused model")
        scores[FUSED] = np.asarray(own, np.float64)
    outcomes = {name: _outcome(scores_NC, measured, gathering.classes) for name, scores_NC in scores.items()}
    found = {name: one for name, one in outcomes.items() if one is not None}
    others = [name for name in (ENSEMBLE, WEIGHTED, best, LABELS) if name in found]
    against = {name: paired(found[FUSED], found[name]) for name in others}
    return Bounds(measured, scores, found, against, best, *costs, is_flattering)


def _weighted(gathering: Gathering, beliefs_NC: Floats, measured: Evidence, how: GraphConfig) -> Floats:
    """All models together, weighed by what is believed of the nearest images that took part."""
    count = how.messages.neighbours
    edges = beside(measured.spaces, gathering.evidence.spaces, neighbours=count)
    around_NC = carried(edges, beliefs_NC)
    weights_NM = weights_of(measured.votes_MNC, measured.knows_MC, around_NC, how.messages)
    return ensemble(measured.votes_MNC, measured.knows_MC, weights_NM)


def _labels_alone(gathering: Gathering, measured: Evidence) -> Floats | None:
    """What the labelled images would give without any of the heads; None where a class has none of them."""
    evidence = gathering.evidence.among(gathering.evidence.labelled)
    if set(evidence.truth_N.tolist()) != set(range(len(gathering.classes))):
        return None
    model = blank(gathering.members[gathering.best], gathering.classes)
    seen = gathering.reader.features(model, evidence.paths, model.config.fit_views, about="labels alone")
    rows = [seen.index[path] for path in evidence.paths]
    left_out_NVC = model.head.fit(torch.from_numpy(seen.features_NVD[rows]), torch.from_numpy(evidence.truth_N))
    found_NC = np.asarray(decided(model, measured.paths, gathering.reader, about="labels alone"), np.float64)
    if measured is gathering.evidence:  # nothing is measured on what it was fitted to
        found_NC[gathering.evidence.labelled] = model.at_decision(left_out_NVC).softmax(-1).numpy()
    return found_NC


def _outcome(scores_NC: Floats, measured: Evidence, classes: tuple[str, ...]) -> ClassificationOutcome | None:
    places = measured.labelled
    if not len(places):
        return None
    paths = tuple(str(measured.paths[at]) for at in places)
    groups = tuple(measured.samples[at].group for at in places)
    return ClassificationOutcome(classes, paths, scores_NC[places], measured.truth_N[places], groups=groups)
