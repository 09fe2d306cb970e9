"""A threshold from normal images alone that keeps the false-alarm rate asked for.

Split conformal prediction (Vovk et al. 2005): of n calibration scores and one new exchangeable one, each rank is
equally likely. The k-th smallest with k = ceil((n + 1)(1 - rate)) is exceeded by a new normal image with probability of
at most the rate. With n images no rate below 1 / (n + 1) can be certified.

Nearest-neighbour scores left one image out keep this guarantee on an uncapped bank: each is computed against the others
only, and adding the new image to the bank could but lower it, so the true rank of the new score is never worse than the
one used here. Under a cap the bank itself is an approximation (our reading; RESULTS.md shows the observed rates). A
classifier's left-out doubts are those of heads with one image less (the jackknife): a new image's tend to be smaller,
which is observed, not proven (Barber et al. 2021, arXiv 1905.02928, prove twice the rate of a variant).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ConformalThreshold:
    """``value`` flags scores above it; ``certified_rate`` is the false-alarm rate it keeps, ``asked_rate`` the wish.

    ``caveat`` says how images were counted, or why new ones may be flagged more often, where there is reason to.
    ``most`` is how many images can be kept as evidence, where there is a bound.
    """

    value: float
    asked_rate: float
    certified_rate: float
    normals: int
    caveat: str = ""
    most: int | None = None

    @property
    def holds(self) -> bool:
        """True where the rate asked for could be certified."""
        return self.certified_rate <= self.asked_rate + 1e-12

    def explain(self, flagged: str = "false alarms", images: str = "normal images", *, by: str = "certified by") -> str:
        """One sentence for people: what the rate is of, which images it comes from, and how."""
        caveat = f"; {self.caveat}" if self.caveat else ""
        if self.holds:
            return f"at most {self.asked_rate:.2%} {flagged}, {by} {self.normals} {images}{caveat}"
        return (
            f"{self.normals} {images} cannot certify {self.asked_rate:.2%} {flagged}; the lowest rate they can is "
            f"{self.certified_rate:.2%}, which is used. {self._advice(images)}{caveat}"
        )

    def _advice(self, images: str) -> str:
        need = math.ceil(1 / self.asked_rate) - 1
        if self.most is None or need <= self.most:
            return f"{need} {images} would do"
        return f"No more than {self.most} {images} count, so the lowest rate there is is {1 / (self.most + 1):.2%}"


def conformal_threshold(normal_scores: Sequence[float], *, rate: float, most: int | None = None) -> ConformalThreshold:
    """The threshold for ``rate`` in (0, 1), or for the lowest rate that ``normal_scores`` can certify.

    ``most`` is how many scores there can ever be, which advice to the user depends on.
    """
    assert normal_scores, "a threshold needs a score"
    scores = sorted(normal_scores)
    rank = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    if rank > len(scores):
        return ConformalThreshold(scores[-1], rate, 1 / (len(scores) + 1), len(scores), most=most)
    return ConformalThreshold(scores[rank - 1], rate, rate, len(scores), most=most)
