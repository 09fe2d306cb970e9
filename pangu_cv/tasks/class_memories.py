"""Memories of what classes look like made one, as of plants that have learnt apart."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import torch

from pangu_cv.errors import DataError
from pangu_cv.models.replay import Known, kept
from pangu_cv.tasks.class_memory import ClassMemory, ClosedFormModel


def merge(model: ClosedFormModel, memories: Sequence[ClassMemory], *, base: ClassMemory | None = None) -> ClassMemory:
    """Of what any of them has learnt, over the classes of all; what stands in ``base``, from which all grew, once.

    While all hold features as they came, these are joined, and an image of several counts once. Else sums are: raises
    DataError where they mean different things, since memories were folded apart, or would count an image twice. Where
    plants are to be joined for years, let them start from a memory that is ``folded``. Raises DataError too for
    memories of other backbones or resizes, and for an image that they name differently.
    """
    given = [*memories, *([base] if base else [])]
    first = memories[0]
    if any(m.fingerprint != first.fingerprint or m.rows_per_image != first.rows_per_image for m in given):
        raise DataError("these memories do not share backbone and resize, so their sums cannot be joined")
    more = sorted({name for m in memories for name in m.classes} - set(first.classes))
    joined = replace(first, classes=(*first.classes, *more), known=_known(memories, base))
    if any(m.is_folded for m in given):
        return _of_sums(joined, memories, base)
    return joined.standardised_anew(model, {digest: rows for m in reversed(memories) for digest, rows in m.raw.items()})


def _known(memories: Sequence[ClassMemory], base: ClassMemory | None) -> dict[str, Known]:
    """Every image once, as the one memory names it that changed its name, where one did."""
    start = base.known if base else {}
    found: dict[str, Known] = {}
    for memory in memories:
        for digest, one in memory.known.items():
            was, at_first = found.setdefault(digest, one), start.get(digest)
            if was.classes == one.classes or (at_first and at_first.classes == one.classes):
                continue
            if at_first is None or at_first.classes != was.classes:
                said = " and ".join("+".join(known.classes) for known in (was, one))
                raise DataError(
                    f"an image is named differently by two memories (SHA-256 {digest[:12]}: {said}); correct it in one "
                    "of them: pangu-cv update MODEL --data IMAGE --relabel"
                )
            found[digest] = one
    return found


def _of_sums(joined: ClassMemory, memories: Sequence[ClassMemory], base: ClassMemory | None) -> ClassMemory:
    """All folded by the statistics of one that is."""
    start = base.known if base else {}
    twice = sum(len(m.known) for m in memories) - len(joined.known) - (len(memories) - 1) * len(start)
    if twice:
        raise DataError(
            f"{twice} images of one memory are in another too and would count twice, since some hold sums alone; name "
            "the model that all grew from as the base"
        )
    given = [*memories, *([base] if base else [])]
    statistics = next(m for m in given if m.is_folded).statistics
    parts = [m.folded(statistics) for m in given]
    if not all(torch.equal(a, b) for m in parts for a, b in zip(m.statistics, statistics, strict=True)):
        raise DataError(
            "these memories were folded apart, each with feature statistics of its own, so their sums cannot be "
            "joined; that needs models that grew from one which was folded already"
        )
    sums = [m.aligned(joined.classes) for m in parts]
    shared = sums[-1] if base else None
    ridge = reduce(lambda one, other: one.merge(other, base=shared), sums[: len(memories)])
    shown = {digest: rows for m in reversed(parts[: len(memories)]) for digest, rows in m.replay.items()}
    stays = kept(joined.known, shown, per_class=joined.per_class)
    return replace(joined, statistics=statistics, ridge=ridge, raw={}, replay={name: shown[name] for name in stays})
