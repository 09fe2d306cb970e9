"""Two sets of decisions on the same image, side by side: flips, score differences, map error."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Outputs = Mapping[str, NDArray[Any]]
DECISIONS = ("label", "is_anomalous")
MAP_BLOCKS = 8


@dataclass(frozen=True)
class Limits:
    """What a certificate is held to: flipped decisions, and the largest absolute difference of a score and of a map.

    Scores are probabilities (classify) or multiples of a typical normal score (anomaly).
    """

    flips: int = 0
    score: float = 1e-3
    map: float = 1e-3

    def to_json(self) -> dict[str, float]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """The worst of what was compared; ``flips`` counts images whose decision differs."""

    flips: int = 0
    score: float = 0.0
    map: float = 0.0

    def within(self, limits: Limits) -> bool:
        """True where nothing exceeds its limit; NaN never does."""
        return self.flips <= limits.flips and self.score <= limits.score and self.map <= limits.map

    def to_json(self) -> dict[str, float]:
        """Plain values."""
        return asdict(self)


def compare(expected: Outputs, found: Outputs) -> Difference:
    """The difference of the outputs for one image, batch of one, under the contract's names."""
    flips = any(not np.array_equal(expected[name], found[name]) for name in DECISIONS if name in expected)
    scores = [name for name in ("scores", "score", "threshold_applied") if name in expected]
    return Difference(
        flips=int(flips),
        score=max((_largest(expected[name], found[name]) for name in scores), default=0.0),
        map=_largest(expected["map"], found["map"]) if "map" in expected else 0.0,
    )


def _largest(expected: NDArray[Any], found: NDArray[Any]) -> float:
    if expected.shape != found.shape or not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return float("inf")
    return float(np.abs(expected.astype(np.float64) - found).max(initial=0.0))


def worst(differences: Iterable[Difference]) -> Difference:
    """Sum of flips, maximum of the rest."""
    items = list(differences)
    return Difference(
        flips=sum(d.flips for d in items),
        score=max((d.score for d in items), default=0.0),
        map=max((d.map for d in items), default=0.0),
    )


def recordable(outputs: Outputs) -> dict[str, Any]:
    """Outputs for one image as JSON; a map becomes the means of 8 by 8 blocks, enough to see that it moved."""
    record: dict[str, Any] = {}
    for name, value in outputs.items():
        compact = _block_means(value[0]) if name == "map" else value
        record[name] = np.round(compact.astype(np.float64), 6).tolist() if compact.dtype != bool else compact.tolist()
    return record


def from_record(record: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The arrays behind ``recordable``."""
    return {name: np.array(value) for name, value in record.items()}


def compact(outputs: Outputs) -> dict[str, NDArray[Any]]:
    """Outputs reduced as ``recordable`` does, to compare with a record."""
    return {name: _block_means(value[0]) if name == "map" else value for name, value in outputs.items()}


def _block_means(map_HW: NDArray[Any]) -> NDArray[np.float64]:
    rows = np.array_split(map_HW.astype(np.float64), min(MAP_BLOCKS, map_HW.shape[0]), axis=0)
    return np.array(
        [[block.mean() for block in np.array_split(row, min(MAP_BLOCKS, row.shape[1]), axis=1)] for row in rows]
    )
