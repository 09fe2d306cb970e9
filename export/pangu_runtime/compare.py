"""Two sets of decisions on the same image, side by side: flips, score differences, map error."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Outputs = Mapping[str, NDArray[Any]]
DECISIONS = ("label", "is_anomalous", "is_present")
MAP_BLOCKS = 8
SAME_BOX = 0.5  # IoU from which two boxes are the same one
_AT_THRESHOLD = 1e-4
_ROUNDING_PX = 2  # pixels of a mask that may tip over without counting


@dataclass(frozen=True)
class Limits:
    """What a certificate is held to: flipped decisions, and the largest absolute difference of a score and of a map.

    Scores are probabilities or multiples of a typical normal score (anomaly); maps are heat maps, or the confidence of
    every pixel. ``mask`` is 1 - IoU of what is not background, ``box`` 1 - IoU of a found box.
    """

    flips: int = 0
    score: float = 1e-3
    map: float = 1e-3
    mask: float = 1e-2
    box: float = 1e-2

    def to_json(self) -> dict[str, float]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Limits":
        """The inverse; certificates of tasks that came first say nothing of masks. Raises KeyError or ValueError."""
        later = {name: float(values.get(name, default)) for name, default in (("mask", cls.mask), ("box", cls.box))}
        return cls(int(values["flips"]), float(values["score"]), float(values["map"]), **later)


# int8 against its own answers: where rounding differs between processors, a value falls on the next of 255 steps.
OWN_LIMITS = Limits(flips=0, score=5e-2, map=1e-1, mask=1e-1, box=2e-1)


@dataclass(frozen=True)
class Difference:
    """The worst of what was compared.

    ``flips`` counts images whose decision differs: of labels any of them, of masks their classes, of boxes their number
    or class.
    """

    flips: int = 0
    score: float = 0.0
    map: float = 0.0
    mask: float = 0.0
    box: float = 0.0

    def within(self, limits: Limits) -> bool:
        """True where nothing exceeds its limit; NaN never does."""
        return all(value <= asdict(limits)[name] for name, value in asdict(self).items())

    def to_json(self) -> dict[str, float]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Difference":
        """The inverse. Raises KeyError or ValueError."""
        return cls(int(values["flips"]), *(float(values[name]) for name in ("score", "map", "mask", "box")))


def compare(expected: Outputs, found: Outputs) -> Difference:
    """The difference of the outputs for one image, batch of one, under the contract's names."""
    if "boxes_xyxy" in expected:
        return _compare_boxes(expected, found)
    flips = any(not np.array_equal(expected[name], found[name]) for name in DECISIONS if name in expected)
    flips = flips or ("mask" in expected and _other_classes(expected["mask"], found["mask"]))
    maps = [name for name in ("map", "confidence") if name in expected]
    scores = [name for name in ("scores", "score", "threshold_applied") if name in expected]
    return Difference(
        flips=int(flips),
        score=max((_largest(expected[name], found[name]) for name in scores), default=0.0),
        map=max((_largest(expected[name], found[name]) for name in maps), default=0.0),
        mask=_mask_difference(expected["mask"], found["mask"]) if "mask" in expected else 0.0,
    )


def _largest(expected: NDArray[Any], found: NDArray[Any]) -> float:
    if expected.shape != found.shape or not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return float("inf")
    return float(np.abs(expected.astype(np.float64) - found).max(initial=0.0))


def _compare_boxes(expected: Outputs, found: Outputs) -> Difference:
    """Box by box those that count as found; one whose score lies at the threshold may fall on either side of it.

    Where none counts, the best score is compared, so that an image without objects tells something too.
    """
    if not (_is_finite(expected) and _is_finite(found)):
        return Difference(flips=1, score=float("inf"), box=float("inf"))
    threshold = float(expected["threshold_applied"][0])
    moved = _largest(expected["threshold_applied"], found["threshold_applied"])
    free = list(range(int(found["count"][0])))
    score, box, unmatched = moved, 0.0, 0
    for at in range(int(expected["count"][0])):
        mine, label = expected["boxes_xyxy"][0][at], expected["labels"][0][at]
        overlaps = {i: overlap(mine, found["boxes_xyxy"][0][i]) for i in free if found["labels"][0][i] == label}
        best = max(overlaps, key=overlaps.__getitem__, default=None)
        if best is None or overlaps[best] < SAME_BOX:
            unmatched += abs(float(expected["scores"][0][at]) - threshold) > _AT_THRESHOLD
            continue
        free.remove(best)
        box = max(box, 1 - overlaps[best])
        score = max(score, abs(float(expected["scores"][0][at]) - float(found["scores"][0][best])))
    unmatched += sum(abs(float(found["scores"][0][i]) - threshold) > _AT_THRESHOLD for i in free)
    if not int(expected["count"][0]):
        score = max(score, abs(_best(expected) - _best(found)))
    return Difference(flips=int(unmatched > 0), score=score, box=box)


def _is_finite(outputs: Outputs) -> bool:
    """Whether every score is, and every box that counts: no comparison below would hold against NaN."""
    counted = outputs["boxes_xyxy"][0][: int(outputs["count"][0])]
    return bool(np.isfinite(outputs["scores"]).all() and np.isfinite(counted).all())


def _best(outputs: Outputs) -> float:
    return float(outputs["scores"][0].max(initial=0.0))


def overlap(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Intersection over union of two boxes."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    inter = float(np.prod(np.clip(high - low, 0, None)))
    areas = [float(np.prod(box[2:] - box[:2])) for box in (one, other)]
    return inter / max(sum(areas) - inter, 1e-9)


def _other_classes(expected: NDArray[Any], found: NDArray[Any]) -> bool:
    """Whether one shows a class that the other does not, beyond a few pixels of rounding."""
    if expected.dtype != np.uint8 or found.dtype != np.uint8:  # as recorded, see ``_block_shares``
        return False
    return any(
        int(np.sum(one == value)) > _ROUNDING_PX and not np.any(other == value)
        for one, other in ((expected, found), (found, expected))
        for value in np.unique(one)
    )


def _mask_difference(expected: NDArray[Any], found: NDArray[Any]) -> float:
    """1 - IoU of what is not background; of recorded masks the largest difference of a block's share."""
    if expected.shape != found.shape:
        return float("inf")
    if expected.dtype != np.uint8 or found.dtype != np.uint8:
        return _largest(expected, found)
    differing = int(np.sum(expected != found))
    union = int(np.sum((expected > 0) | (found > 0)))
    return 0.0 if differing <= _ROUNDING_PX else differing / max(union, 1)


def worst(differences: Iterable[Difference]) -> Difference:
    """Sum of flips, maximum of the rest."""
    items = list(differences)
    return Difference(
        flips=sum(d.flips for d in items),
        score=max((d.score for d in items), default=0.0),
        map=max((d.map for d in items), default=0.0),
        mask=max((d.mask for d in items), default=0.0),
        box=max((d.box for d in items), default=0.0),
    )


def recordable(outputs: Outputs) -> dict[str, Any]:
    """Outputs for one image as JSON; maps and masks become 8 by 8 blocks, enough to see that they moved."""
    record: dict[str, Any] = {}
    for name, value in _shortened(compact(outputs)).items():
        record[name] = np.round(value.astype(np.float64), 6).tolist() if value.dtype != bool else value.tolist()
    return record


def from_record(record: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The arrays behind ``recordable``."""
    return {name: np.array(value) for name, value in record.items()}


def compare_recorded(record: Any, found: Outputs) -> Difference:
    """The difference of ``found`` from a recorded answer, which may come from anyone.

    Raises ValueError where the record does not state each of the outputs, in numbers of their shape: what it leaves out
    could not differ.
    """
    if not isinstance(record, dict) or sorted(record) != sorted(found):
        raise ValueError(
            f"outputs {sorted(record) if isinstance(record, dict) else record!r}, expected {sorted(found)}"
        )
    expected, reduced = from_record(record), compact(found)
    for name, value in expected.items():
        if value.dtype.kind not in "biuf" or value.ndim != reduced[name].ndim:
            raise ValueError(f"{name}: {value.dtype}{list(value.shape)} is no recorded answer")
    try:
        return compare(expected, reduced)
    except (IndexError, OverflowError) as error:
        raise ValueError(f"an answer that contradicts itself ({error})") from None


def compact(outputs: Outputs) -> dict[str, NDArray[Any]]:
    """Outputs reduced as ``recordable`` does, to compare with a record."""
    return {name: _BLOCKS[name](value[0]) if name in _BLOCKS else value for name, value in outputs.items()}


def _block_means(map_HW: NDArray[Any]) -> NDArray[np.float64]:
    rows = np.array_split(map_HW.astype(np.float64), min(MAP_BLOCKS, map_HW.shape[0]), axis=0)
    return np.array(
        [[block.mean() for block in np.array_split(row, min(MAP_BLOCKS, row.shape[1]), axis=1)] for row in rows]
    )


def _block_shares(mask_HW: NDArray[Any]) -> NDArray[np.float64]:
    """Per block the share that is not background, and the mean class number over 256."""
    return np.stack([_block_means(mask_HW > 0), _block_means(mask_HW / 256)])


_BLOCKS = {"map": _block_means, "confidence": _block_means, "mask": _block_shares}


def _shortened(outputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Of boxes those that count as found, so that a record of a thousand images stays small."""
    if "boxes_xyxy" not in outputs:
        return outputs
    count = max(1, int(outputs["count"][0]))
    return {n: v[:, :count] if n in ("boxes_xyxy", "scores", "labels") else v for n, v in outputs.items()}
