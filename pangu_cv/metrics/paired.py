"""Two models on the same images: what separates them, and whether chance would do.

The images (those of a group together) are what is drawn, the same for both models, so that what makes an image hard for
both cancels out: the interval of the difference is far narrower than two intervals side by side suggest.

Shapes: R resamples, P images that both models saw.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics.bootstrap import FEWEST_IMAGES, Figure, Floats, Groups, bootstrap, count_units, value
from pangu_cv.metrics.interval import Interval

Winner = Literal["a", "b"]


class Outcome(Protocol):
    """What any task's outcome has: its images, and figures for images that count several times."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The images."""
        ...

    @property
    def groups(self) -> Groups:
        """Of each image the group it is drawn with, or none at all."""
        ...

    @property
    def figures(self) -> dict[str, Figure]:
        """Figures by name, the first the one to compare by."""
        ...


@dataclass(frozen=True)
class Difference:
    """A figure of two models, and ``a - b`` with its paired 95 % interval."""

    a: float
    b: float
    interval: Interval

    @property
    def winner(self) -> Winner | None:
        """The better one, None where the interval holds 0 or has no ends."""
        low, high = self.interval.low, self.interval.high
        if low is None or high is None:
            return None
        return "a" if low > 0 else "b" if high < 0 else None


@dataclass(frozen=True)
class Disagreement:
    """Of the images that only one model got right; ``p_value`` is McNemar's, exact (1947, doi:10.1007/BF02295996).

    It counts image by image, whatever their groups.
    """

    only_a_right: int
    only_b_right: int
    both_right: int
    neither_right: int
    p_value: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two models on the images that both could read: ``index_a_P`` and ``index_b_P`` are their places in each outcome.

    ``differences`` holds the figures that are defined for both, the main one first; ``disagreement`` is None for tasks
    without one right answer an image.
    """

    index_a_P: NDArray[np.int64]
    index_b_P: NDArray[np.int64]
    differences: Mapping[str, Difference]
    disagreement: Disagreement | None
    units: int
    """How many of them, or groups of them, are drawn."""

    @property
    def images(self) -> int:
        """How many images both models saw."""
        return len(self.index_a_P)

    @property
    def is_too_small(self) -> bool:
        """Whether there are too few images, or groups of them, to believe an interval."""
        return self.units < FEWEST_IMAGES

    @property
    def winner(self) -> Winner | None:
        """The better model by the main figure, None where the interval holds 0, or where there are too few images."""
        main = next(iter(self.differences.values()), None)
        return None if main is None or self.is_too_small else main.winner

    def summary(self) -> dict[str, Any]:
        """Every figure, ready for ``json.dumps``."""
        return {
            "images": self.images,
            "better": self.winner,
            "differences": {
                name: {"a": one.a, "b": one.b, "difference": one.interval.as_json()}
                for name, one in self.differences.items()
            },
            "disagreement": vars(self.disagreement) if self.disagreement else None,
        }


def paired(a: Outcome, b: Outcome) -> Comparison:
    """Compare two outcomes of one kind on the images that both have, in the order of ``a``."""
    place_b = {path: i for i, path in enumerate(b.paths)}
    pairs = [(i, place_b[path]) for i, path in enumerate(a.paths) if path in place_b]
    index_a_P, index_b_P = np.array(pairs, np.int64).reshape(-1, 2).T
    groups = [a.groups[place] for place in index_a_P] if a.groups else []
    units = count_units(len(pairs), groups)
    differences = {}
    for name, figure in (a.figures if pairs else {}).items():
        first = _among(figure, index_a_P, len(a.paths))
        second = _among(b.figures[name], index_b_P, len(b.paths))
        if found := _difference(first, second, len(pairs), groups):
            differences[name] = found
    right_a_N, right_b_N = (getattr(outcome, "is_correct_N", None) for outcome in (a, b))
    disagreement = None
    if right_a_N is not None and right_b_N is not None:
        disagreement = _disagreement(right_a_N[index_a_P], right_b_N[index_b_P])
    return Comparison(index_a_P, index_b_P, differences, disagreement, units)


def _among(figure: Figure, index_P: NDArray[np.int64], images: int) -> Figure:
    """The figure over some of the images: the others count 0 times."""

    def among(counts_RP: Floats) -> Floats:
        counts_RN = np.zeros((len(counts_RP), images))
        counts_RN[:, index_P] = counts_RP
        return figure(counts_RN)

    return among


def _difference(a: Figure, b: Figure, images: int, groups: Groups) -> Difference | None:
    both = value(a, images), value(b, images)
    interval = bootstrap(lambda counts_RP: a(counts_RP) - b(counts_RP), images, groups)
    return None if interval is None or both[0] is None or both[1] is None else Difference(both[0], both[1], interval)


def _disagreement(right_a_P: NDArray[np.bool_], right_b_P: NDArray[np.bool_]) -> Disagreement:
    from scipy.stats import binomtest  # type: ignore[import-untyped]

    only_a, only_b = int((right_a_P & ~right_b_P).sum()), int((right_b_P & ~right_a_P).sum())
    p_value = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    both, neither = int((right_a_P & right_b_P).sum()), int((~right_a_P & ~right_b_P).sum())
    return Disagreement(only_a, only_b, both, neither, p_value)
