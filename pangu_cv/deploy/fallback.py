"""int8 under a limit: the most sensitive layers go back to fp32 until what is lost holds it; else there is no int8."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pangu_cv.deploy.control import FLIPS_PER_POINT, MOST_MOVED, Control, Loss
from pangu_cv.deploy.decider import GraphDecider, Kind, Pixels
from pangu_cv.deploy.quantise import Quantiser
from pangu_cv.deploy.ranges import Method
from pangu_cv.deploy.sensitivity import Sensitivity, Yardstick, best_method, sensitivities
from pangu_cv.errors import PrecisionError
from pangu_cv.features import Progress

MOST_SHARE = 0.5  # of the layers that may stay in fp32: with more, int8 buys too little for a second model file


@dataclass(frozen=True)
class Int8:
    """What was tried and what was chosen; the most sensitive ``kept`` layers of ``sensitivities`` are in fp32."""

    method: Method
    method_errors: dict[Method, float]
    sensitivities: tuple[Sensitivity, ...]
    kept: int
    loss: Loss
    tried: dict[int, Loss]


def int8_within(
    limit: float,
    quantiser: Quantiser,
    kind: Kind,
    control: Control,
    images: Sequence[Pixels],
    path: Path,
    *,
    progress: Progress | None = None,
) -> Int8:
    """Write the int8 graph that keeps the fewest layers in fp32 and loses at most ``limit`` points.

    ``images`` are a few to see errors on. Raises CertificateError where half of the layers in fp32 are not enough.
    """
    if not quantiser.layers:
        raise PrecisionError("int8", "int8: no layer of the network has weights to quantise", "export without it")
    yardstick = Yardstick(quantiser, kind, images)
    errors = best_method(quantiser, yardstick)
    method = next(iter(errors))
    found = sensitivities(quantiser, yardstick, method=method, progress=progress)
    tried: dict[int, Loss] = {}

    def loss_with(kept: int) -> Loss:
        if kept not in tried:
            path.write_bytes(quantiser.int8([one.layer for one in found[kept:]], method=method).SerializeToString())
            tried[kept] = control.loss(GraphDecider(path, kind))
        return tried[kept]

    kept = _fewest(lambda count: loss_with(count).within(limit), most=int(MOST_SHARE * len(found)))
    if kept is None:
        path.unlink(missing_ok=True)
        raise _refusal(limit, tried, found)
    loss = loss_with(kept)
    path.write_bytes(quantiser.int8([one.layer for one in found[kept:]], method=method).SerializeToString())
    return Int8(method, errors, found, kept, loss, dict(sorted(tried.items())))


def _fewest(holds: Callable[[int], bool], *, most: int) -> int | None:
    """The smallest count for which it holds, by doubling and halving; None where it does not even for ``most``."""
    low, high = -1, 0
    while not holds(high):
        if high >= most:
            return None
        low, high = high, min(most, max(1, 2 * high))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _refusal(limit: float, tried: dict[int, Loss], found: Sequence[Sensitivity]) -> PrecisionError:
    last = max(tried)
    return PrecisionError(
        "int8",
        f"int8 loses {_told(tried[0])}; with the {last} most sensitive of {len(found)} layers in fp32 "
        f"{_told(tried[last])}. Allowed are {limit:g} points and {FLIPS_PER_POINT * limit:g} % of decisions",
        "calibrate on more images of the line (--calibrate), allow more (--max-loss), or export with --precision fp16 "
        "or fp32",
    )


def _told(loss: Loss) -> str:
    of = f"points of {loss.figure.replace('_', ' ')}" if loss.figure else "points of the decisions"
    moved = f" and the typical score moves by {100 * loss.moved:.1f} %" if loss.moved > MOST_MOVED else ""
    return f"{loss.points:.2f} {of} on {loss.images} images, where {loss.flips} decisions differ{moved}"
