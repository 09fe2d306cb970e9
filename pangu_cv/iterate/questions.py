"""What to ask next: the image that is worth most, the class whose yes or no tells most, no two alike at once.

All the yes-or-no questions that an image needs until its class is known carry its whole entropy together (the chain
rule: H(class) = H(p₁) + (1 - p₁) H(rest)), so images are ranked by that; of an image the class is asked whose single
answer is worth most, which is where p is nearest to ½ (ours; 2009.06168 always asks about the likeliest class).

Shapes: N images, D features, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.cluster import MiniBatchKMeans

from pangu_cv.settings import Settings

_CANDIDATES = 4  # times as many images as are asked for compete for being unlike each other
_SAME = 1e-3  # squared distance below which two images show the same
_PASSES_OVER = 20_000  # images that the start is chosen from

Floats = NDArray[np.float64]


class PricesConfig(Settings):
    """What answers cost a person; it decides when to ask for the class outright."""

    bit_seconds: Annotated[float, Field(gt=0)] = 1.5
    """A yes or no; 2.7 in 2009.06168."""
    label_seconds: Annotated[float, Field(gt=0)] = 5.0
    """Naming the class out of all; 60 in 2009.06168."""
    noes_before_label: Annotated[int, Field(ge=0)] = 2
    """After so many times no the class is asked for outright, unless going on is expected to be cheaper."""

    def wants_label(self, shares_C: Floats, noes: int) -> bool:
        """Whether naming the class is cheaper than asking class after class, the likeliest first."""
        ranked = np.sort(shares_C)[::-1]
        expected = self.bit_seconds * float((ranked * np.arange(1, len(ranked) + 1)).sum())
        return noes >= self.noes_before_label and expected > self.label_seconds


@dataclass(frozen=True, slots=True)
class Wanted:
    """A question: is image ``row`` of class number ``klass``? (None: which class is it?) ``bits`` is what it tells."""

    row: int
    klass: int | None
    bits: float


def information_bits(share: Floats) -> Floats:
    """Entropy of a yes-or-no answer whose yes has that probability."""
    p = np.clip(share, 1e-12, 1 - 1e-12)
    return np.asarray(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)))


def entropy_bits(probabilities_NC: Floats) -> Floats:
    """Entropy of the class of each image, [N]; 0 where no class is left."""
    p = np.maximum(probabilities_NC, 1e-12)
    return np.asarray(-(probabilities_NC * np.log2(p)).sum(1))


def question(row: int, shares_C: Floats, *, noes: int, prices: PricesConfig) -> Wanted:
    """The most informative question about one image."""
    if prices.wants_label(shares_C, noes):
        return Wanted(row, None, float(entropy_bits(shares_C[None])[0]))
    told_C = information_bits(shares_C) + 1e-9 * shares_C  # of two even halves the likelier
    klass = int(np.argmax(np.where(shares_C > 0, told_C, -1)))
    return Wanted(row, klass, float(told_C[klass]))


def hardest(
    probabilities_NC: Floats,
    features_ND: NDArray[np.float32],
    *,
    is_open_N: NDArray[np.bool_],
    count: int,
    given: Sequence[int] = (),
) -> list[int]:
    """Rows to ask about, the first the most doubtful: far from each other and from those ``given`` out already."""
    value_N = np.where(is_open_N, entropy_bits(probabilities_NC), -1.0)
    value_N[list(given)] = -1.0
    ranked = np.argsort(-value_N, kind="stable")[: _CANDIDATES * count]
    ranked = ranked[value_N[ranked] >= 0]
    if not len(ranked):
        return []
    distance = np.full(len(ranked), np.inf)
    for row in given:
        distance = np.minimum(distance, _squares(features_ND, ranked, row))
    chosen: list[int] = []
    while len(chosen) < min(count, len(ranked)):
        at = 0 if not chosen and not len(given) else int(distance.argmax())
        if distance[at] < _SAME:
            break
        chosen.append(int(ranked[at]))
        distance = np.minimum(distance, _squares(features_ND, ranked, ranked[at]))
        distance[at] = -1.0
    return chosen or [int(ranked[0])]


def typical(features_ND: NDArray[np.float32], count: int, *, seed: int = 0) -> list[int]:
    """Where to begin when nothing is known: of each of ``count`` clusters the image in its middle, large ones first.

    As TypiClust (arXiv 2202.02794) does, with the distance to the centre for typicality.
    """
    random = np.random.default_rng(seed)
    rows = np.sort(random.permutation(len(features_ND))[:_PASSES_OVER])
    clusters = min(count, len(rows))
    means = MiniBatchKMeans(clusters, n_init=1, random_state=seed, batch_size=1024).fit(features_ND[rows])
    distance = means.transform(features_ND[rows])[np.arange(len(rows)), means.labels_]
    sizes = np.bincount(means.labels_, minlength=clusters)
    order = [cluster for cluster in np.argsort(-sizes, kind="stable") if sizes[cluster]]
    middles = [np.flatnonzero(means.labels_ == cluster) for cluster in order]
    return [int(rows[members[distance[members].argmin()]]) for members in middles]


def _squares(features_ND: NDArray[np.float32], rows: NDArray[np.int64], to: int) -> Floats:
    gaps = features_ND[rows].astype(np.float64) - features_ND[to]
    return np.asarray((gaps * gaps).sum(1))
