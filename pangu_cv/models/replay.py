"""A few images of every class, as feature rows: what is measured again whenever the rest of a memory has grown.

Kept are the images whose digests are the smallest. That is a random draw which does not depend on the order in which
images came, and of two buffers joined it is again the draw of all. Images nearest to their class's mean (herding, as in
iCaRL, arXiv 1611.07725) would say that the model is surer than it is, and certify nothing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """What was learnt of an image: its classes, its weight, whether it was reported as a hard case, its group."""

    classes: tuple[str, ...]
    weight: float = 1.0
    is_hard: bool = False
    group: str = ""


def kept(known: Mapping[str, Known], among: Iterable[str], *, per_class: int) -> list[str]:
    """Of the digests ``among`` those that stay: ``per_class`` of each class, and as many of its hard cases."""
    counts: Counter[tuple[str, bool]] = Counter()
    chosen = []
    for digest in sorted(among):
        one = known[digest]
        places = [(name, one.is_hard) for name in one.classes or ("",)]
        if any(counts[place] < per_class for place in places):
            chosen.append(digest)
            counts.update(places)
    return chosen
