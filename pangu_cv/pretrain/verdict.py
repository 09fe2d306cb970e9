"""Use it or keep the original: the best state against the starting weights, target by target."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pangu_cv.metrics.interval import Interval, paired_gain
from pangu_cv.pretrain.probes import Score

LEAST_GAIN = 0.005  # half a point: less is not worth a second backbone


def is_worth_it(gain: Interval) -> bool:
    """At least half a point, and no draw-to-draw accident: the whole interval lies above 0."""
    return gain.mean >= LEAST_GAIN and gain.low is not None and gain.low > 0


@dataclass(frozen=True)
class TargetVerdict:
    """One target: before, after, the paired gain over draws, and whether to use the new weights."""

    target: str
    before: float
    after: float
    gain: Interval
    use: bool

    @property
    def sentence(self) -> str:
        """For people."""
        low, high = (100 * (end or 0) for end in (self.gain.low, self.gain.high))
        points = f"{100 * self.gain.mean:+.1f} points [{low:+.1f}, {high:+.1f}]"
        return f"{self.target}: {points}: {'use it' if self.use else 'keep the original'}"


@dataclass(frozen=True)
class Verdict:
    """All targets, and the mean gain over them with the originals kept where the verdict says so."""

    targets: tuple[TargetVerdict, ...]
    images: int

    @property
    def sentence(self) -> str:
        """For people."""
        if not self.targets:
            return "No target was named, so nothing says whether the new weights are better: name some under 'targets'"
        used = [t for t in self.targets if t.use]
        if not used:
            return f"No gain on your {self.images:,} images: keep the original"
        mean = 100 * sum(t.gain.mean for t in used) / len(self.targets)
        kept = [t.target for t in self.targets if not t.use]
        tail = f"; keep the original for {', '.join(kept)}" if kept else ""
        return f"{mean:+.1f} points on the mean of {len(self.targets)} target(s): use it{tail}"

    def as_json(self) -> dict[str, Any]:
        """For ``metrics.json`` and the checkpoint."""
        return {"sentence": self.sentence, "targets": [asdict(t) for t in self.targets]}


def verdict(before: Sequence[Score], after: Sequence[Score], *, images: int) -> Verdict:
    """Compare draw by draw."""
    targets = []
    for old, new in zip(before, after, strict=True):
        gain = paired_gain(new.values, old.values)
        targets.append(TargetVerdict(new.target, old.mean, new.mean, gain, is_worth_it(gain)))
    return Verdict(tuple(targets), images)
