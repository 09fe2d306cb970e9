"""Means and shares with the uncertainty that their sample size leaves.

A table without intervals invites reading noise as progress: five seeds give a Student interval (``mean_interval``), two
methods on the same draws are compared by their differences (``paired_gain``), and a count of false alarms gets a Wilson
interval (``proportion_interval``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
Values = Sequence[float] | FloatArray
_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean of ``n`` values with the ends of its interval, None where one value cannot tell how it spreads."""

    mean: float
    low: float | None
    high: float | None
    n: int

    def __contains__(self, value: float) -> bool:
        """Whether ``value`` lies inside; an end that is None bounds nothing."""
        return (self.low is None or self.low <= value) and (self.high is None or value <= self.high)

    def as_json(self) -> dict[str, float | int | None]:
        """The four fields, ready for ``json.dumps``."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "n": self.n}


def mean_interval(values: Values) -> Interval:
    """Mean and 95 % Student-t interval of independent repetitions (seeds, draws); no ends for one value."""
    numbers = _numbers(values)
    n, mean = numbers.size, float(numbers.mean())
    if n == 1:
        return Interval(mean, None, None, 1)
    from scipy.special import stdtrit  # type: ignore[import-untyped]  # a fixed dependency of scikit-learn

    half = float(stdtrit(n - 1, 0.5 + _LEVEL / 2)) * float(numbers.std(ddof=1)) / n**0.5
    return Interval(mean, mean - half, mean + half, n)


def paired_gain(a: Values, b: Values) -> Interval:
    """``mean_interval`` of ``a - b``, pair by pair (same seed, same draw): a gain when ``low > 0``."""
    return mean_interval(_differences(a, b))


def proportion_interval(hits: int, total: int) -> Interval | None:
    """95 % Wilson score interval (1927) of a share, inside [0, 1], sane at 0 and ``total`` hits; None of nothing."""
    if not 0 <= hits <= total:
        raise ValueError(f"{hits} hits of {total}: hits must lie between 0 and the total")
    if total == 0:
        return None
    z, share = NormalDist().inv_cdf(0.5 + _LEVEL / 2), hits / total
    shrink = 1 + z * z / total
    centre = (share + z * z / (2 * total)) / shrink
    half = z * (share * (1 - share) / total + z * z / (4 * total * total)) ** 0.5 / shrink
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    high = 1.0 if hits == total else min(1.0, centre + half)
    return Interval(share, low, high, total)


def _numbers(values: Values) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or numbers.size == 0:
        raise ValueError(f"an interval needs a flat list with a value, not one of shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise ValueError("an interval needs finite values")
    return numbers


def _differences(a: Values, b: Values) -> NDArray[np.float64]:
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.shape != right.shape:
        raise ValueError(f"pairs need two lists of one length, not {left.shape} and {right.shape}")
    return left - right
