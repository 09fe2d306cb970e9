"""Use it or keep the original: the best state against the starting weights, target by target.

On images that did not choose the state: the best of many rounds is partly the luckiest on those that did. What each
target has too few images to prove, all of them together may.
"""

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

    ``together`` is the mean gain over several targets with none kept back, None for one.
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


def verdict(before: Sequence[Score], after: Sequence[Score], *, images: int) -> Verdict:
    """Compare draw by draw and image by image.

    A target uses the new weights where its own images prove a gain, or where those of all targets together prove one
    and its own gain is no smaller than the least that is worth it.
    """
    pairs = list(zip(before, after, strict=True))
    gains = [gain_of(old.judged, new.judged) for old, new in pairs]
    together = _mean_of(gains) if len(gains) > 1 else None
    by_all = together is not None and is_worth_it(together)
    targets = []
    for (old, new), gain in zip(pairs, gains, strict=True):
        is_own = is_worth_it(gain)
        use = is_own or (by_all and gain.mean >= LEAST_GAIN)
        target = TargetVerdict(
            new.target, old.judged.mean, new.judged.mean, gain, use, by_all=use and not is_own, is_apart=new.is_apart
        )
        targets.append(target)
    return Verdict(tuple(targets), images, together)


def _mean_of(gains: Sequence[Interval]) -> Interval:
    """Mean gain over targets, whose images and draws are their own: what is uncertain adds up as squares."""
    mean, n = float(np.mean([gain.mean for gain in gains])), sum(gain.n for gain in gains)
    halves = [gain.high - gain.mean for gain in gains if gain.high is not None]
    if len(halves) < len(gains):
        return Interval(mean, None, None, n)
    half = float(np.linalg.norm(halves)) / len(gains)
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
