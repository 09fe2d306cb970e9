"""Which images belong together: of one group, or copies of one file."""

from collections.abc import Sequence

from pangu_cv.data.near_duplicates import groups_of


def belonging(digests: Sequence[str], groups: Sequence[str | None]) -> list[str]:
    """A name for each image, which those share that belong together, also by chains of groups and copies.

    ``digests`` are of the files, ``groups`` as datasets name them.
    """
    members: dict[str, list[int]] = {}
    for at, (digest, group) in enumerate(zip(digests, groups, strict=True)):
        for name in [f"file {digest}", *([f"group {group}"] if group else [])]:
            members.setdefault(name, []).append(at)
    names = list(digests)
    for chain in groups_of([(places[0], other) for places in members.values() for other in places]):
        shared = min(groups[at] or digests[at] for at in chain)
        for at in chain:
            names[at] = shared
    return names
