"""The draws of detect and segment: beside images that show each class, some that show nothing, and others for damaged
ones.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pangu_cv.data.few_shot import draw
from pangu_cv.data.few_shot_contents import draw_containing
from pangu_cv.data.readers.mvtec import NORMAL
from pangu_cv.data.sample import Sample
from pangu_cv.finetune.all_draws import same_images
from pangu_cv.finetune.draws import Parts, apart, draw_support, torn_note

Contents = Mapping[Sample, frozenset[str]]
Usable = Callable[[Sample], bool]


def draw_dense(
    pool: Sequence[Sample],
    test: Sequence[Sample],
    contents: Contents,
    *,
    shots: int | None,
    seed: int,
    normal: Sequence[Sample] = (),
    usable: Usable = lambda _: True,
) -> Parts:
    """``draw_support``, with ``shots`` images that show nothing (None: all), of ``normal`` and of the pool.

    None that shows nothing is of a group that is measured: they are many, and what is measured is dear. Without a test
    part, half of the pool's are left to measure on. Images that are not ``usable`` stay, and the next ones of their
    classes join them.
    """
    support, measured = draw_support(pool, test, contents, shots=shots, seed=seed)
    if shots is not None:
        support = _refilled(support, pool, contents, shots=shots, seed=seed, usable=usable)
    taken = {s.group for s in measured if s.group is not None}
    blank, most = [s for s in normal if s.group not in taken], None
    if shots is not None:  # else the pool's are in the draw
        of_pool = [s for s in pool if not contents[s] and s.group not in taken]
        blank += of_pool if test else _showing_nothing(of_pool, shots=len(of_pool) // 2, seed=seed)
        most = min(shots, len(blank))
    learnt = (*support, *_showing_nothing(blank, shots=most, seed=seed))
    seen = set(learnt)
    return learnt, apart(learnt, [s for s in measured if s not in seen])


def _showing_nothing(samples: Sequence[Sample], *, shots: int | None, seed: int) -> tuple[Sample, ...]:
    if not samples or shots == 0:
        return ()
    named = {replace(s, label=NORMAL): s for s in samples}
    return tuple(named[one] for one in draw(named, shots=shots, seed=seed))


def _refilled(
    support: Sequence[Sample], pool: Sequence[Sample], contents: Contents, *, shots: int, seed: int, usable: Usable
) -> tuple[Sample, ...]:
    """The images, and of each class that unusable ones show the next of its own order, until ``shots`` can be used."""
    chosen = dict.fromkeys(support)
    for name in sorted(frozenset[str]().union(*(contents[s] for s in support if not usable(s)))):
        showing = {s: frozenset({name}) for s in pool if name in contents[s]}
        found = sum(usable(s) for s in chosen if s in showing)
        for sample in draw_containing(list(showing), showing, shots=len(showing), seed=seed).support:
            if found >= shots:
                break
            if sample not in chosen:
                chosen[sample] = None
                found += usable(sample)
    return tuple(chosen)


def notes_of(draws: Sequence[Parts], test: Sequence[Sample], contents: Contents, *, shots: int | None) -> list[str]:
    """What a run tells of its draws: test images left out, images that show nothing among a few, the same images."""
    left = [(set(test).difference(measured), measured) for _, measured in draws]
    torn = torn_note(left, lambda s: contents.get(s, frozenset()))
    blank = sum(not contents[s] for s in draws[0][0]) if shots else 0
    told = (
        [f"{blank} of the {len(draws[0][0])} images drawn show nothing, and teach what is not there"] if blank else []
    )
    return [*torn, *told, *same_images(draws)]
