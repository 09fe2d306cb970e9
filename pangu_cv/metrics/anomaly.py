"""What an anomaly detector did on a labelled set: how well it ranks, and what its threshold costs.

Ranking (AUROC, average precision) says whether a threshold *could* work; false alarms and misses say what the chosen
one does. Both are given, the second with intervals: a rate of 1 % cannot be told from 50 normal images.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics.bootstrap import Figure, Groups, intervals, intervals_as_json, require_groups
from pangu_cv.metrics.interval import FloatArray, Interval, proportion_interval
from pangu_cv.metrics.pixel_auroc import PixelScores
from pangu_cv.metrics.ranking import Ranking


@dataclass(frozen=True, eq=False)
class AnomalyOutcome:
    """Scores and decisions of N images against their truth.

    ``is_defect_N`` is the truth, ``is_anomalous_N`` the decision that the model's graph took with ``threshold``,
    ``defect_N`` the kind of defect (``good`` for the normal ones). ``asked_false_alarm_rate`` is what the threshold was
    set for. Every figure is None where it is undefined, such as an AUROC over one class. At least one image.
    """

    paths: tuple[str, ...]
    scores_N: FloatArray
    is_defect_N: NDArray[np.bool_]
    is_anomalous_N: NDArray[np.bool_]
    threshold: float
    defect_N: tuple[str, ...]
    asked_false_alarm_rate: float
    pixels: PixelScores | None = None
    groups: Groups = ()

    def __post_init__(self) -> None:
        n = len(self.paths)
        if n == 0:
            raise ValueError("an outcome needs an image")
        require_groups(n, self.groups)
        for name in ("scores_N", "is_defect_N", "is_anomalous_N"):
            if getattr(self, name).shape != (n,):
                raise ValueError(f"{n} images need {name} of shape {(n,)}, not {getattr(self, name).shape}")
        if len(self.defect_N) != n:
            raise ValueError(f"{n} images need as many kinds of defect, not {len(self.defect_N)}")
        if self.is_defect_N.dtype != np.bool_ or self.is_anomalous_N.dtype != np.bool_:
            raise ValueError("is_defect_N and is_anomalous_N must be boolean: ~ means something else on integers")
        if not (np.isfinite(self.scores_N).all() and np.isfinite(self.threshold)):
            raise ValueError("scores and threshold must be finite")

    @cached_property
    def ranking(self) -> Ranking:
        """Defective images among normal ones, by score."""
        return Ranking(self.scores_N, self.is_defect_N)

    @property
    def has_both_kinds(self) -> bool:
        """Whether normal and defective images both occur, which every ranking needs."""
        return self.ranking.has_both_kinds

    @property
    def image_auroc(self) -> float | None:
        """Chance that a defective image scores above a normal one."""
        return self.ranking.auroc

    @property
    def average_precision(self) -> float | None:
        """Area under precision over recall, by steps; its floor is the share of defective images."""
        return self.ranking.average_precision

    @property
    def is_correct_N(self) -> NDArray[np.bool_]:
        """Whether decision and truth agree."""
        return np.asarray(self.is_anomalous_N == self.is_defect_N)

    @property
    def figures(self) -> dict[str, Figure]:
        """The main figures for images that count several times, the first the one to compare models by."""
        return {"image_auroc": self.ranking.auroc_R, "average_precision": self.ranking.average_precision_R}

    @cached_property
    def intervals(self) -> dict[str, Interval | None]:
        """``figures`` with 95 % by bootstrap over images, those of a group together."""
        return intervals(self.figures, len(self.paths), self.groups)

    @property
    def false_alarm_interval(self) -> Interval | None:
        """Share of the normal images that were called anomalous, with its 95 % Wilson interval."""
        return self._flagged(~self.is_defect_N)

    @property
    def false_alarm_rate(self) -> float | None:
        """Share of the normal images that were called anomalous."""
        return _mean(self.false_alarm_interval)

    @property
    def recall_interval(self) -> Interval | None:
        """Share of the defective images that were found, with its 95 % Wilson interval."""
        return self._flagged(self.is_defect_N)

    @property
    def recall(self) -> float | None:
        """Share of the defective images that were found."""
        return _mean(self.recall_interval)

    @property
    def miss_rate(self) -> float | None:
        """Share of the defective images that passed as normal."""
        return None if self.recall is None else 1 - self.recall

    @property
    def recall_per_defect(self) -> dict[str, Interval]:
        """Recall of each kind of defect that occurs, sorted by name."""
        kind_N = np.asarray(self.defect_N, dtype=object)
        found = {k: self._flagged(self.is_defect_N & (kind_N == k)) for k in sorted(set(self.defect_N))}
        return {kind: interval for kind, interval in found.items() if interval is not None}

    def _flagged(self, among_N: NDArray[np.bool_]) -> Interval | None:
        return proportion_interval(int((self.is_anomalous_N & among_N).sum()), int(among_N.sum()))

    def summary(self) -> dict[str, object]:
        """Every figure, ready for ``json.dumps``."""
        alarms, recall = self.false_alarm_interval, self.recall_interval
        return {
            "images": len(self.paths),
            "defective_images": int(self.is_defect_N.sum()),
            "image_auroc": self.image_auroc,
            "average_precision": self.average_precision,
            "intervals": intervals_as_json(self.intervals),
            "pixel_auroc": self.pixels.auroc if self.pixels else None,
            "pixel_average_precision": self.pixels.average_precision if self.pixels else None,
            "threshold": float(self.threshold),
            "asked_false_alarm_rate": self.asked_false_alarm_rate,
            "false_alarm_rate": self.false_alarm_rate,
            "false_alarm_interval": alarms.as_json() if alarms else None,
            "recall": self.recall,
            "recall_interval": recall.as_json() if recall else None,
            "miss_rate": self.miss_rate,
            "recall_per_defect": {kind: interval.as_json() for kind, interval in self.recall_per_defect.items()},
        }


def _mean(interval: Interval | None) -> float | None:
    return interval.mean if interval else None
