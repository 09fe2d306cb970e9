"""What to do about a checked dataset, one sentence per finding, the gravest first."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from pangu_cv.data.class_names import NO_OBJECT, plain
from pangu_cv.data.duplicates import Duplicates
from pangu_cv.data.findings import UNLABELLED, DataCheck, Faulty
from pangu_cv.data.inspection import ImageFacts
from pangu_cv.data.sample import Sample

_SPLITS = ("train", "val", "test", "no split")
FEW = 5
"""Below this many images a class is called small."""


def advise(check: DataCheck, samples: Sequence[Sample], facts: Sequence[ImageFacts]) -> tuple[str, ...]:
    """Sentences on damage, leaks, contradictions, masks, boxes, bit depth, classes, shortcuts; none if all is well."""
    return (
        *_damage(check),
        *_duplicates(check),
        *_look_alikes(check),
        *_masks(check),
        *_boxes(check),
        *_bit_depth(check),
        *_classes(check),
        *_shortcuts(samples, facts),
    )


def _damage(check: DataCheck) -> Iterator[str]:
    if check.unreadable:
        first = check.unreadable[0]
        yield (
            f"{_count(len(check.unreadable), 'image')} cannot be read ({_reasons(check.unreadable)}): mend or remove; "
            f"first {first.path}: {first.message}"
        )


def _duplicates(check: DataCheck) -> Iterator[str]:
    leaks: dict[str, list[Duplicates]] = defaultdict(list)
    for found in check.duplicates:
        if found.leaks:
            leaks[" and ".join(sorted({s or "no split" for s in found.splits}, key=_SPLITS.index))].append(found)
    for splits, pictures in leaks.items():
        yield (
            f"{_count(len(pictures), 'picture')} in {splits} at once: remove from one, or the score is too good; "
            f"first {_equal(pictures[0])}"
        )
    if torn := [d for d in check.duplicates if d.contradicts]:
        labels = " and ".join(sorted({str(label) for label in torn[0].labels}))
        yield f"{_count(len(torn), 'picture')} with more than one label: decide; first {_equal(torn[0])} ({labels})"
    if plain := [d for d in check.duplicates if not d.leaks and not d.contradicts]:
        extra = sum(len(d.paths) - 1 for d in plain)
        yield (
            f"{_count(extra, 'image')} repeated on one side: remove, or the picture counts several times; "
            f"first {_equal(plain[0])}"
        )


def _look_alikes(check: DataCheck) -> Iterator[str]:
    kinds = (("that look the same", check.look_alikes), ("of one object", check.object_copies))
    for told, found in kinds:
        if leaks := [d for d in found if d.leaks]:
            yield (
                f"{_count(len(leaks), 'group')} of pictures {told} on both sides of a split: look at them, and keep "
                "each on one side (data check --groups, then data.groups and data.split=anew); "
                f"first {_equal(leaks[0])}"
            )


def _masks(check: DataCheck) -> Iterator[str]:
    if check.mask_faults:
        first = check.mask_faults[0]
        yield (
            f"{_count(len(check.mask_faults), 'mask')} unusable ({_reasons(check.mask_faults)}): draw again or remove; "
            f"first {first.path}: {first.message}"
        )


def _boxes(check: DataCheck) -> Iterator[str]:
    if check.box_faults:
        first = check.box_faults[0]
        yield (
            f"{_count(len(check.box_faults), 'image')} of another size than their boxes were drawn on, so unlabelled: "
            f"give the images that were annotated, or scale the boxes; first {first.path}: {first.message}"
        )


def _bit_depth(check: DataCheck) -> Iterator[str]:
    depth = check.range_16bit
    if depth is None or depth.suggested == depth.used:
        return
    found = f"16-bit values run from {depth.found[0]} to {depth.found[1]}"
    if depth.found[1] > depth.used[1]:
        yield f"{found} and are clipped at {list(depth.used)}: set range_16bit to {list(depth.suggested)}"
    elif depth.suggested[1] < depth.used[1]:
        yield f"{found}, so that at {list(depth.used)} all are dark: set range_16bit to {list(depth.suggested)}"


def _classes(check: DataCheck) -> Iterator[str]:
    learnt = check.counts.get("train") or check.counts.get("all", {})
    if check.layout == "images":
        return
    yield from _nearly_one(sorted({name for counts in check.counts.values() for name in counts}))
    no_class = {NO_OBJECT, UNLABELLED}
    small = {name: count for name, count in learnt.items() if count < FEW and name not in no_class}
    if small:
        listed = ", ".join(f"{name} {count}" for name, count in small.items())
        yield f"fewer than {FEW} images to train on: {listed}; add some, or expect doubtful answers for them"
    tested = {name for split in ("val", "test") for name in check.counts.get(split, {})}
    if check.layout != "mvtec" and learnt and (lacking := sorted(tested - learnt.keys() - no_class)):
        yield f"tested but never trained on: {', '.join(lacking)}; add training images of them, or leave them out"
    if "test" not in check.counts:
        yield "no test split: hold images out before training, or no score can be believed"


def _nearly_one(names: Sequence[str]) -> Iterator[str]:
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        alike[plain(name)].append(name)
    for same in alike.values():
        if len(same) > 1:
            listed = " and ".join(f"'{name}'" for name in same)
            told = "differ in case or in how words are joined alone, and count as"
            yield f"{listed} {told} {len(same)} classes: name them alike"


def _shortcuts(samples: Sequence[Sample], facts: Sequence[ImageFacts]) -> Iterator[str]:
    """Formats that give the label away: a model learns the file's origin instead of the defect."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for sample, fact in zip(samples, facts, strict=True):
        if sample.label is not None and fact.header is not None:
            kinds[sample.label].add(fact.header.kind)
    for label, own in sorted(kinds.items()):
        others = set().union(*(kinds[other] for other in kinds if other != label))
        if others and not own & others:
            yield (
                f"all images of '{label}' are {' or '.join(sorted(own))}, and no others are: the file tells the class; "
                "save all in one way"
            )


def _equal(found: Duplicates) -> str:
    more = f" and {len(found.paths) - 3} more" if len(found.paths) > 3 else ""
    return " = ".join(found.paths[:3]) + more


def _reasons(faults: Sequence[Faulty]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in Counter(f.reason for f in faults).most_common())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")
