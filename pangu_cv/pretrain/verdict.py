"""Use it or keep the original: what a run has brought over the starting weights, target by target.

The best of many rounds is partly the luckiest on the images that chose it. So each half of them judges the state that
the other half chooses, both are put together, and the state that all of them choose is used (as cross-validation judges
a fit by fits on less) where it gains too. What each target has too few images to prove, all of them together may.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import hypot
from typing import Any

import numpy as np

from pangu_cv.metrics.interval import Interval, paired_gain
from pangu_cv.pretrain.choice import FOLDS, best_round
from pangu_cv.pretrain.scores import Judged, Score

LEAST_GAIN = 0.005  # half a point: less is not worth a second backbone
MOST_LOSS = 0.01  # a point: more is not risked on one target because the others gain
# Two halves that name the same state are both lucky: without effect their gains correlate by 1/pi for one state beside
# the start (E[ab; a, b > 0] over E[a^2; b > 0] of normal a, b), by up to 0.37 for more. The halves share their draws.
_ALIKE = 4 / 3


def is_worth_it(gain: Interval) -> bool:
    """At least half a point, and no accident of draws or images: the whole interval lies above 0."""
    return gain.mean >= LEAST_GAIN and gain.low is not None and gain.low > 0


def _is_safe(gain: Interval) -> bool:
    """Worth it where others prove it: as much as is worth it, and no more than ``MOST_LOSS`` to lose."""
    return gain.mean >= LEAST_GAIN and gain.low is not None and gain.low >= -MOST_LOSS


@dataclass(frozen=True)
class TargetVerdict:
    """One target: before, after, the paired gain and its images, and whether to use the new weights.

    ``after`` is of the states that did not see the images they are judged by; the one that is kept is near them.

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


def verdict(rounds: Sequence[Sequence[Score]], *, images: int, datasets: Sequence[object] | None = None) -> Verdict:
    """Compare draw by draw and image by image; ``datasets`` names what each target measures on, default: each its own.

    A target uses the new weights where its own images prove a gain; or where those of all targets together prove one,
    its own gain is no smaller than the least that is worth it, and its own images rule out a loss of more than a point.
    In either case the state that is kept must gain as much on all of its images. Targets whose images are too few to
    part chose the state that they judge, and prove nothing for others.
    """
    best = best_round(rounds)
    pairs = _judged(rounds, best)
    gains = [gain_of(old, new, folds=len(start.folds)) for start, (old, new) in zip(rounds[0], pairs, strict=True)]
    names = range(len(pairs)) if datasets is None else datasets
    apart = [(name, gain) for name, gain, start in zip(names, gains, rounds[0], strict=True) if start.is_apart]
    together = _mean_of(apart) if len(apart) > 1 else None
    is_proven = together is not None and is_worth_it(together)
    targets = []
    for start, kept, (old, new), gain in zip(rounds[0], rounds[best], pairs, gains, strict=True):
        gains_kept = kept.mean - start.mean >= LEAST_GAIN
        is_own = gains_kept and is_worth_it(gain)
        by_all = gains_kept and is_proven and start.is_apart and not is_own and _is_safe(gain)
        figures = (old.mean, new.mean, gain)
        targets.append(TargetVerdict(start.target, *figures, is_own or by_all, by_all=by_all, is_apart=start.is_apart))
    return Verdict(tuple(targets), images, together)


def _judged(rounds: Sequence[Sequence[Score]], best: int) -> list[tuple[Judged, Judged]]:
    """By target the start, and of each half the round that the other chose, or the start where that is kept."""
    chosen = [best and best_round(rounds, beside=fold) for fold in range(FOLDS)]
    pairs = []
    for target, start in enumerate(rounds[0]):
        judged_by_fold = chosen if start.is_apart else [best]
        after = [rounds[at][target].folds[fold] for fold, at in enumerate(judged_by_fold)]
        pairs.append((Judged.joined(start.folds), Judged.joined(after)))
    return pairs


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


def gain_of(old: Judged, new: Judged, *, folds: int) -> Interval:
    """The mean gain over ``n`` images, no ends for one; two independent ways to be lucky add up as squares.

    What hangs on draw and image at once counts in both, so that the interval is rather too wide.
    """
    draws, images = paired_gain(new.by_draw, old.by_draw), paired_gain(new.by_image, old.by_image)
    if draws.high is None or images.high is None:
        return Interval(draws.mean, None, None, images.n)
    half = hypot(draws.high - draws.mean, images.high - images.mean) * (_ALIKE**0.5 if folds > 1 else 1.0)
    return Interval(draws.mean, draws.mean - half, draws.mean + half, images.n)
