"""Two memories of what classes look like made one, as of plants that have learnt apart from one and the same model."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from pangu_cv.errors import DataError
from pangu_cv.models.replay import kept
from pangu_cv.tasks.class_memory import ClassMemory, ClosedFormModel


def merge(
    model: ClosedFormModel, one: ClassMemory, other: ClassMemory, *, base: ClassMemory | None = None
) -> ClassMemory:
    """Of what either has learnt, over the classes of both; what stands in ``base``, from which both grew, once.

    Raises DataError where they do not share backbone and resize, name one image differently, or were folded apart: then
    their sums mean different things. Where plants are to be joined for years, let them start from a memory that is
    ``folded``. An image of both counts once while features are held as they came; in sums it would count twice, so that
    none may be in both without ``base``.
    """
    given = [one, other, *([base] if base else [])]
    if any(m.fingerprint != one.fingerprint or m.rows_per_image != one.rows_per_image for m in given):
        raise DataError("these memories do not share backbone and resize, so their sums cannot be joined")
    both = set(one.known) & set(other.known) - set(base.known if base else ())
    apart = [digest for digest in both if one.known[digest].classes != other.known[digest].classes]
    if apart:
        first = apart[0]
        said = " and ".join(", ".join(m.known[first].classes) for m in (one, other))
        raise DataError(
            f"{len(apart)} of the images in both memories named differently (SHA-256 {first[:12]}: {said}); correct "
            "the label in one plant (pangu-cv update)"
        )
    if both and any(m.is_folded for m in given):
        raise DataError(f"{len(both)} images in both memories would count twice, since one is sums alone")
    classes = (*one.classes, *sorted(set(other.classes) - set(one.classes)))
    joined = replace(one, classes=classes, known={**other.known, **one.known})
    if not any(m.is_folded for m in given):
        return joined.standardised_anew(model, {**other.raw, **one.raw})
    return _of_sums(joined, given)


def _of_sums(joined: ClassMemory, given: Sequence[ClassMemory]) -> ClassMemory:
    """Of two memories and perhaps the one both grew from; all folded by the statistics of one that is."""
    statistics = next(m for m in given if m.is_folded).statistics
    one, other, *base = (m.folded(statistics) for m in given)
    parts = [one, other, *base]
    if not all(torch.equal(a, b) for m in parts for a, b in zip(m.statistics, statistics, strict=True)):
        raise DataError(
            "these memories were folded with feature statistics of their own, so their sums cannot be joined; update "
            "both plants' models from one model that is folded already"
        )
    sums = [m.aligned(joined.classes) for m in parts]
    ridge = sums[0].merge(sums[1], base=sums[2] if base else None)
    shown = {**other.replay, **one.replay}
    stays = kept(joined.known, shown, per_class=joined.per_class)
    return replace(joined, statistics=statistics, ridge=ridge, raw={}, replay={name: shown[name] for name in stays})
