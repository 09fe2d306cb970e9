"""Use it or keep the original: the best state against the starting weights, target by target.

On images that did not choose the state: the best of many rounds is partly the luckiest on those that did. What each
target has too few images to prove, all of them together may.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import hypot
from typing import Any

import numpy as np

from pangu_cv.metrics.interval import Interval, paired_gain
from pangu_cv.pretrain.scores import Judged, Score

LEAST_GAIN = 0.005  # half a point: less is not worth a second backbone


def is_worth_it(gain: Interval) -> bool:
    """At least half a point, and no accident of draws or images: the whole interval lies above 0."""
    return gain.mean >= LEAST_GAIN and gain.low is not None and gain.low > 0


@dataclass(frozen=True)
class TargetVerdict:
    """One target: before, after, the paired gain and its images, and whether to use the new weights.

    ``by_all`` says that its own images do not prove the gain and all targets together do. Where not ``is_apart`` the
    same images chose the state, and the gain is a little too good.
    """

    target: str
    before: float
    after: float
    gain: Interval
    use: bool
    by_all: bool
    is_apart: bool

    @property
    def sentence(self) -> str:
        """For people."""
        low, high = (100 * (end or 0) for end in (self.gain.low, self.gain.high))
        points = f"{100 * self.gain.mean:+.1f} points [{low:+.1f}, {high:+.1f}]"
        tail = "" if self.is_apart else " (too few images: the same ones chose the round)"
        return f"{self.target}: {points}: {self.advice}{tail}"

    @property
    def advice(self) -> str:
        """What to do."""
        if not self.use:
            return "keep the original"
        return "use it (by all together)" if self.by_all else "use it"


@dataclass(frozen=True)
class Verdict:
    """All targets, and the mean gain over them with the originals kept where the verdict says so.

    ``together`` is the mean gain over those of several targets whose images did not choose the state, with none kept
    back; None for fewer than two.
    """

    targets: tuple[TargetVerdict, ...]
    images: int
    together: Interval | None = None

    @property
    def sentence(self) -> str:
        """For people."""
        if not self.targets:
            return "No target was named, so nothing says whether the new weights are better: name some under 'targets'"
        used = [t for t in self.targets if t.use]
        if not used:
            return f"No gain on your {self.images:,} images: keep the original{self._doubt}"
        mean = 100 * sum(t.gain.mean for t in used) / len(self.targets)
        kept = [t.target for t in self.targets if not t.use]
        tail = f"; keep the original for {', '.join(kept)}" if kept else ""
        return f"{mean:+.1f} points on the mean of {len(self.targets)} target(s): use it{tail}{self._doubt}"

    @property
    def _doubt(self) -> str:
        shared = [t.target for t in self.targets if not t.is_apart]
        return f". Too few images to part: the same ones chose the round for {', '.join(shared)}" if shared else ""

    def as_json(self) -> dict[str, Any]:
        """For ``metrics.json`` and the checkpoint."""
        together = None if self.together is None else self.together.as_json()
        return {"sentence": self.sentence, "targets": [asdict(t) for t in self.targets], "together": together}


def verdict(
    before: Sequence[Score], after: Sequence[Score], *, images: int, datasets: Sequence[object] | None = None
) -> Verdict:
    """Compare draw by draw and image by image; ``datasets`` names what each target measures on, default: each its own.

    A target uses the new weights where its own images prove a gain, or where those of all targets together prove one
    and its own gain is no smaller than the least that is worth it. Targets whose images chose the state too prove
    nothing for others.
    """
    pairs = list(zip(before, after, strict=True))
    gains = [gain_of(old.judged, new.judged) for old, new in pairs]
    names = range(len(pairs)) if datasets is None else datasets
    apart = [(name, gain) for name, gain, (_, new) in zip(names, gains, pairs, strict=True) if new.is_apart]
    together = _mean_of(apart) if len(apart) > 1 else None
    is_proven = together is not None and is_worth_it(together)
    targets = []
    for (old, new), gain in zip(pairs, gains, strict=True):
        is_own = is_worth_it(gain)
        by_all = is_proven and new.is_apart and not is_own and gain.mean >= LEAST_GAIN
        figures = (old.judged.mean, new.judged.mean, gain)
        targets.append(TargetVerdict(new.target, *figures, is_own or by_all, by_all=by_all, is_apart=new.is_apart))
    return Verdict(tuple(targets), images, together)


def _mean_of(gains: Sequence[tuple[object, Interval]]) -> Interval:
    """Mean gain over targets: what is uncertain adds up as squares, but plainly where they measure on one dataset."""
    mean, n = float(np.mean([gain.mean for _, gain in gains])), sum(gain.n for _, gain in gains)
    halves: dict[object, float] = defaultdict(float)
    for name, gain in gains:
        if gain.high is None:
            return Interval(mean, None, None, n)
        halves[name] += gain.high - gain.mean
    half = float(np.linalg.norm(list(halves.values()))) / len(gains)
    return Interval(mean, mean - half, mean + half, n)


def gain_of(old: Judged, new: Judged) -> Interval:
    """The mean gain over ``n`` images, no ends for one; two independent ways to be lucky add up as squares.

    What hangs on draw and image at once counts in both, so that the interval is rather too wide.
    """
    draws, images = paired_gain(new.by_draw, old.by_draw), paired_gain(new.by_image, old.by_image)
    if draws.high is None or images.high is None:
        return Interval(draws.mean, None, None, images.n)
    half = hypot(draws.high - draws.mean, images.high - images.mean)
    return Interval(draws.mean, draws.mean - half, draws.mean + half, images.n)
