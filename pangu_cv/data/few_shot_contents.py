"""Drawing images that show several classes at once: k that contain each class, the same ones on every machine.

An image with boxes or a mask shows any number of classes; one drawn for a rare class counts for the others it shows.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from pangu_cv.data.few_shot import FewShotDraw, draw
from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError

Contents = Mapping[Sample, frozenset[str]]


def draw_containing(samples: Sequence[Sample], contents: Contents, *, shots: int | None, seed: int) -> FewShotDraw:
    """At least ``shots`` images of every class in ``contents``, the rarest class first; None means all of them.

    ``rest`` is what shares no group with the draw. Raises DataError where a class has too few images.
    """
    showing = _showing(samples, contents)
    if not showing:
        raise DataError("nothing to draw from: no image shows a class")
    short = {name: len(found) for name, found in showing.items() if shots is not None and len(found) < shots}
    if short:
        listed = ", ".join(f"'{name}' is in {count}" for name, count in short.items())
        raise DataError(f"{shots} images per class asked, but {listed}; label more images of them or lower shots")
    chosen: dict[Sample, None] = {}
    counts: Counter[str] = Counter()  # of the chosen images that show each class
    for name in sorted(showing, key=lambda one: (len(showing[one]), one)):
        wanted = len(showing[name]) if shots is None else shots
        for sample in _first(showing[name], chosen, wanted - counts[name], name, seed):
            chosen[sample] = None
            counts.update(contents[sample])
    groups = {s.group for s in chosen if s.group is not None}
    others = [s for s in samples if s not in chosen]
    rest = tuple(s for s in others if s.group not in groups)
    dropped = tuple(s for s in others if s.group in groups)
    return FewShotDraw(tuple(chosen), rest, dropped, shots, seed)


def _showing(samples: Sequence[Sample], contents: Contents) -> dict[str, list[Sample]]:
    """The images of every class, the classes by name; looked up once an image, since a sample is slow to hash."""
    showing: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        for name in contents[sample]:
            showing[name].append(sample)
    return dict(sorted(showing.items()))


def _first(found: Sequence[Sample], chosen: Mapping[Sample, None], lacking: int, name: str, seed: int) -> list[Sample]:
    """The next images of the class's own order, from as many groups as there are."""
    if lacking <= 0:
        return []
    plain = {Sample(s.path, label=name, group=s.group): s for s in found}
    order = draw(list(plain), shots=len(plain), seed=seed)
    return [plain[one] for one in order if plain[one] not in chosen][:lacking]
