"""Milliseconds from pixels to decision, several engines in turn on the same images."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Engine = Callable[[Pixels], Any]
_BLOCK = 8
_SETTLE_S = 0.05  # thread pools spin for a while after their work; the next engine must not pay for it


def interleaved(engines: Mapping[str, Engine], images: Sequence[Pixels], *, rounds: int) -> dict[str, dict[str, float]]:
    """Median and 95th percentile in ms of every engine on single decoded images [H,W,3].

    Engines take turns of some images each, in changing order; the first image of a turn is run twice and its first
    time left out.
    """
    times: dict[str, list[float]] = {name: [] for name in engines}
    names = list(engines)
    for turn, start in enumerate(start for _ in range(rounds) for start in range(0, len(images), _BLOCK)):
        block = images[start : start + _BLOCK]
        for name in names if turn % 2 else names[::-1]:
            time.sleep(_SETTLE_S)
            engines[name](block[0])
            times[name] += [_milliseconds(engines[name], image) for image in block]
    return {name: summary(values) for name, values in times.items()}


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and count."""
    return {
        "median_ms": float(np.median(values)),
        "p95_ms": float(np.quantile(values, 0.95)),
        "calls": len(values),
    }


def _milliseconds(engine: Engine, image: Pixels) -> float:
    start = time.perf_counter()
    engine(image)
    return 1000 * (time.perf_counter() - start)


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most ``count`` items at even distances."""
    if len(items) <= count:
        return list(items)
    return [items[round(at)] for at in np.linspace(0, len(items) - 1, count)]
