"""Which labelled images belong together: of one group, or copies of one file."""

from collections.abc import Sequence

from pangu_cv.data.near_duplicates import groups_of
from pangu_cv.data.sample import Sample
from pangu_cv.features import content_digest


def kin_of(samples: Sequence[Sample]) -> list[str]:
    """A name for each image, which those share that belong together, also by chains of groups and copies.

    Raises ImageError where a file cannot be read.
    """
    members: dict[str, list[int]] = {}
    digests = [content_digest(sample.path) for sample in samples]
    for at, (sample, digest) in enumerate(zip(samples, digests, strict=True)):
        for name in [f"file {digest}", *([f"group {sample.group}"] if sample.group else [])]:
            members.setdefault(name, []).append(at)
    names = list(digests)
    for chain in groups_of([(places[0], other) for places in members.values() for other in places]):
        shared = min(samples[at].group or digests[at] for at in chain)
        for at in chain:
            names[at] = shared
    return names
