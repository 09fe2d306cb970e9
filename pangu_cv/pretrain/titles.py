"""Names for people that tell the datasets of one run apart."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pangu_cv.data.config import dataset_title


def titles(paths: Sequence[Path]) -> list[str]:
    """The dataset's title where no other has it, else its whole name, with as many folders above it as it takes; a
    dataset named again has a number."""
    whole = [path.resolve() for path in paths]
    names = {path: dataset_title(path) for path in whole}
    for depth in range(1, max((len(path.parts) for path in whole), default=0)):
        taken = Counter(names.values())
        names = {p: name if taken[name] == 1 else "/".join(p.parts[-depth:]) for p, name in names.items()}
    again: Counter[Path] = Counter()
    found = []
    for path in whole:
        again[path] += 1
        found.append(names[path] + (f" ({again[path]})" if again[path] > 1 else ""))
    return found
