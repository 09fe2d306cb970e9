"""Speeds taken in turn: what slows the machine for a while slows every side of a ratio."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Rates = dict[str, list[float]]


def in_turn(speeds: Mapping[str, Callable[[], float]], *, rounds: int) -> Rates:
    """A speed of every side in every round, always in one order. A round before the first is left out.

    An order that turns round by round would have the sides at its ends run twice in a row, with their own memory in the
    caches, and those between them never.
    """
    found: Rates = {name: [] for name in speeds}
    for number in range(-1, rounds):
        for name, speed in speeds.items():
            measured = speed()
            if number >= 0:
                found[name].append(measured)
    return found


def ratio(rates: Rates, first: str, second: str) -> dict[str, Any]:
    """Speed of the first over that of the second, round by round: median, quartiles, and every round's."""
    return spread_of([a / b for a, b in zip(rates[first], rates[second], strict=True)])


def spread_of(values: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles beside the values."""
    low, median, high = (float(np.quantile(values, at)) for at in (0.25, 0.5, 0.75))
    return {"median": median, "low": low, "high": high, "values": [float(value) for value in values]}
