"""What people changed in a dataset: one fact an entry, and the same in a few sentences."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pangu_cv.data.sample import Box

Field = Literal["label", "split", "group", "caption", "box", "mask", "image", "rejected", "tag"]


@dataclass(frozen=True, slots=True)
class Change:
    """One fact: ``field`` of ``image`` (its name below the dataset's root) went from ``before`` to ``after``.

    Values are plain: text or None for label, split, group and caption; ``{"label", "xyxy"}`` or None for a box that is
    there or not; a digest of the pixels for a mask. An ``image`` that is left out goes from ``there`` to None.
    ``rejected`` is a class that it does not show, ``tag`` a word that changes nothing else.
    """

    image: str
    field: Field
    before: Any
    after: Any
    by: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def in_words(changes: Sequence[Change]) -> tuple[str, ...]:
    """A sentence per kind of change, the most frequent pairs named."""
    lines = [*_pairs(changes, "label", "labels changed"), *_pairs(changes, "split", "images moved to another split")]
    boxes = [one for one in changes if one.field == "box"]
    kinds = Counter(_box_kind(one) for one in boxes)
    lines += [f"{count} boxes {kind}" for kind, count in sorted(kinds.items())]
    for field, words in (
        ("mask", "masks changed"),
        ("group", "groups changed"),
        ("caption", "captions changed"),
        ("image", "images left out"),
    ):
        if count := sum(one.field == field for one in changes):
            lines.append(f"{count} {words}")
    lines += _counted(changes, "rejected", "images do not show '{}'")
    lines += _counted(changes, "tag", "images tagged '{}'")
    return tuple(lines)


def _pairs(changes: Iterable[Change], field: Field, words: str) -> list[str]:
    pairs = Counter((one.before, one.after) for one in changes if one.field == field)
    if not pairs:
        return []
    named = ", ".join(f"{_quoted(a)} to {_quoted(b)}: {count}" for (a, b), count in pairs.most_common(8))
    more = f", and {len(pairs) - 8} other pairs" if len(pairs) > 8 else ""
    return [f"{pairs.total()} {words} ({named}{more})"]


def _counted(changes: Iterable[Change], field: Field, words: str) -> list[str]:
    found = Counter(str(one.after) for one in changes if one.field == field)
    return [f"{count} {words.format(name)}" for name, count in sorted(found.items())]


def _box_kind(change: Change) -> str:
    if change.before is None:
        return "added"
    if change.after is None:
        return "removed"
    is_moved, is_renamed = (change.before[key] != change.after[key] for key in ("xyxy", "label"))
    return "moved and relabelled" if is_moved and is_renamed else "moved" if is_moved else "relabelled"


def _quoted(value: object) -> str:
    return "nothing" if value is None else f"'{value}'"


def box_changes(name: str, before: Sequence[Box], after: Sequence[Box], by: str) -> list[Change]:
    """Equal ones cancel out; of the others those at the same place, or of one class and overlapping, are one box."""
    gone, new = list((Counter(before) - Counter(after)).elements()), list((Counter(after) - Counter(before)).elements())
    changes = []
    for matches in (_same_place, _same_object):
        for old in list(gone):
            fit = next((one for one in new if matches(old, one)), None)
            if fit is not None:
                gone.remove(old)
                new.remove(fit)
                changes.append(Change(name, "box", _plain(old), _plain(fit), by))
    changes += [Change(name, "box", _plain(one), None, by) for one in gone]
    return changes + [Change(name, "box", None, _plain(one), by) for one in new]


def _same_place(a: Box, b: Box) -> bool:
    return a.xyxy == b.xyxy


def _same_object(a: Box, b: Box) -> bool:
    touch = all(a.xyxy[at] < b.xyxy[at + 2] and b.xyxy[at] < a.xyxy[at + 2] for at in (0, 1))
    return a.label == b.label and touch


def _plain(box: Box) -> dict[str, Any]:
    return {"label": box.label, "xyxy": list(box.xyxy)}


def renamed(changes: Sequence[Change], classes: Sequence[str]) -> Iterator[str]:
    """Classes that are no more, since all their labels became one other class."""
    pairs: dict[str, Counter[str]] = {}
    for one in changes:
        if one.field == "label" and one.before is not None:
            pairs.setdefault(one.before, Counter())[str(one.after)] += 1
        elif one.field == "box" and one.before and one.after and one.before["label"] != one.after["label"]:
            pairs.setdefault(one.before["label"], Counter())[one.after["label"]] += 1
    for old, found in pairs.items():
        if len(found) == 1 and old not in classes:
            yield (
                f"class '{old}' was renamed '{next(iter(found))}' ({found.total()} labels): a model trained before "
                "knows the old name only"
            )
