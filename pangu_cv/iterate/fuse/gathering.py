"""What every way of fusing is given, and what it gives back.

Shapes: M models, N images, C classes of the union.
"""

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from pangu_cv.iterate.fuse.ensemble import CERTAINTY, Floats, normalised
from pangu_cv.iterate.fuse.evidence import Evidence, Reader
from pangu_cv.iterate.fuse.members import Member
from pangu_cv.iterate.fuse.student import worth
from pangu_cv.models.training import History
from pangu_cv.tasks.class_memory import ClassMemory
from pangu_cv.tasks.classify import ClassifyModel


@dataclass(frozen=True, eq=False)
class Gathering:
    """The models, all their classes, and what they say of the images that choose and teach."""

    members: tuple[Member, ...]
    classes: tuple[str, ...]
    evidence: Evidence
    reader: Reader
    seed: int = 0

    @cached_property
    def beliefs_NC(self) -> Floats:
        """What heads of mixed weights are taught: the plain ensemble, made surer, and labels where they are known."""
        return labelled_as(normalised(self.evidence.ensemble_NC**CERTAINTY), self.evidence)

    @property
    def is_one_list(self) -> bool:
        """Whether all models know the same classes."""
        return bool(self.evidence.knows_MC.all())

    @cached_property
    def worths(self) -> tuple[float, ...]:
        """Of every model by itself, as ``worth`` measures it."""
        return tuple(worth(scores_NC, self.evidence, self.beliefs_NC) for scores_NC in self.evidence.scores_MNC)

    @property
    def best(self) -> int:
        """The place of the best model; the first of equals."""
        return int(np.argmax(self.worths))

    @property
    def measure(self) -> str:
        """What ``worth`` is here, in words."""
        labelled = len(self.evidence.labelled)
        if labelled:
            return f"balanced accuracy on {labelled} labelled images"
        return f"share of {len(self.evidence.samples)} images decided as the ensemble does (none is labelled)"


@dataclass(frozen=True)
class Tried:
    """Something that was looked at: its worth, and whether it is part of what came out."""

    name: str
    worth: float
    is_taken: bool


@dataclass(frozen=True, eq=False)
class Fused:
    """The one model and how it came about; ``weights_NM`` of the models over the images where a way has them."""

    model: ClassifyModel
    way: str
    told: str
    worth: float
    tried: tuple[Tried, ...] = ()
    weights_NM: Floats | None = None
    beliefs_NC: Floats | None = None
    left_out_NC: Floats | None = None
    """What the model says of each image where its head was fitted without that image."""
    history: History = field(default_factory=History)
    memory: ClassMemory | None = None
    """What its head was fitted from, where that can be said without the images."""

    def as_json(self) -> dict[str, Any]:
        """For ``metrics.json``."""
        return {"way": self.way, "told": self.told, "worth": self.worth, "tried": [asdict(one) for one in self.tried]}


def labelled_as(beliefs_NC: Floats, evidence: Evidence) -> Floats:
    """Beliefs with certainty where an image is labelled."""
    sure_NC = beliefs_NC.copy()
    places = evidence.labelled
    sure_NC[places] = np.eye(beliefs_NC.shape[1])[evidence.truth_N[places]]
    return sure_NC
