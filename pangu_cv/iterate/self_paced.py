"""Two-way self-paced learning (our reading): the machine takes images from the easy end, people from the hard one.

Self-paced learning (Kumar et al. 2010) minimises Σ v·ℓ + λ(v²/2 - v), so that a pseudo-label of loss ℓ enters with the
weight v = max(0, 1 - ℓ/λ); λ grows from round to round, and every round draws all pseudo-labels anew. Both ends walk
along one ranking by confidence, and the work is done where they meet.

Shapes: N images, C classes.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pangu_cv.settings import Settings

_TINY = 1e-9


class PaceConfig(Settings):
    """How fast the easy end moves."""

    start: Annotated[float, Field(gt=0)] = 0.02
    """λ of the first round: a pseudo-label enters where its loss -log p is below it; 0.02 is p > 98 %."""
    growth: Annotated[float, Field(gt=1)] = 1.1
    """By what λ grows each round."""
    end: Annotated[float, Field(gt=0)] = 0.03
    """λ grows no further; 0.03 is p > 97 %. The fronts meet where no open image is less sure than that."""
    weight: Annotated[float, Field(ge=0, le=1)] = 0.1
    """What a pseudo-label of loss 0 weighs beside a person's label; 0 learns from people alone."""
    most: Annotated[int, Field(ge=0)] = 1000
    """Pseudo-labels that are learnt from at a time, the surest of them."""

    def at(self, round_: int, *, halvings: int = 0) -> float:
        """λ of a round, counted from 0; halved as often as the machine was found too sure."""
        return float(min(self.end, self.start * self.growth ** min(round_, 1000)) / 2**halvings)


@dataclass(frozen=True, eq=False)
class Fronts:
    """``weight_N`` is v: above 0 for what the machine has taken. ``between`` is how many open images nobody has."""

    weight_N: NDArray[np.float64]
    between: int

    @property
    def have_met(self) -> bool:
        """Whether nothing is left to ask."""
        return self.between == 0


def weights(loss_N: NDArray[np.float64], pace: float) -> NDArray[np.float64]:
    """v = max(0, 1 - ℓ/λ)."""
    return np.maximum(0.0, 1 - loss_N / pace)


def fronts(probabilities_NC: NDArray[np.float64], is_open_N: NDArray[np.bool_], pace: float) -> Fronts:
    """Where both ends are; ``is_open_N`` are the images of which no person has named the class."""
    loss_N = -np.log(np.maximum(probabilities_NC.max(1), _TINY))
    weight_N = np.where(is_open_N, weights(loss_N, pace), 0.0)
    return Fronts(weight_N, int(np.count_nonzero(is_open_N & (weight_N == 0))))
