"""What one sample of FiftyOne says now, against what was sent: labels edited in place, and what tags ask for.

Tags on a sample: ``accept`` (the model is right: its answer becomes the label), ``reject`` (the model is wrong: its
answer is struck out, the label stays), ``relabel:CLASS``, ``unlabel``, ``remove`` (leave the image out), ``unsure`` and
any other word (noted, nothing changes). On a single box: ``accept`` takes a predicted one, ``reject`` strikes one out,
``relabel:CLASS`` names it anew.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.readers.mvtec import NORMAL
from pangu_cv.data.sample import Box
from pangu_cv.data.shown import SEPARATOR
from pangu_cv.iterate.inspect.out import OWN_TAGS
from pangu_cv.iterate.inspect.sent import Sent, SentBox, mask_digest, pixels_of
from pangu_cv.iterate.inspect.shown import (
    BOXES,
    LABEL,
    LABELS,
    MASK,
    PREDICTED,
    PREDICTED_BOXES,
    PREDICTED_LABELS,
    PREDICTED_MASK,
)
from pangu_runtime.bundle import UNKNOWN

ACCEPT, REJECT, REMOVE, UNLABEL, RELABEL = "accept", "reject", "remove", "unlabel", "relabel:"
DEFECT = "defect"  # the class of an accepted anomaly whose kind nobody named
_ALONE = (ACCEPT, REMOVE, UNLABEL)


@dataclass
class Edited:
    """An image as people left it, untouched where it is as it was sent; ``problems`` could not be followed."""

    label: str | None
    boxes: tuple[Box, ...] | None
    mask_HW: NDArray[np.uint8] | None = None
    is_mask_gone: bool = False
    is_removed: bool = False
    rejected: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def edited(sample: Any, sent: Sent) -> Edited:
    """Labels as they stand in FiftyOne, then what the tags ask for."""
    found = Edited(_label(sample, sent), _boxes(sample, sent))
    mask = _value(sample, MASK)
    pixels = None if mask is None else mask.get_mask()
    if pixels is None:
        found.is_mask_gone = sent.mask is not None
    elif mask_digest(pixels) != sent.mask:
        found.mask_HW = np.asarray(pixels, np.uint8)
    _follow_box_tags(sample, sent, found)
    _follow_tags(sample, sent, found)
    return found


def _label(sample: Any, sent: Sent) -> str | None:
    """The class of the image; the very text that was sent where nobody touched it."""
    one, several = _value(sample, LABEL), _value(sample, LABELS)
    if several is None:
        return sent.label if one is None and not sample.has_field(LABEL) else _text(one)
    names = [_text(each) for each in several.classifications]
    joined = SEPARATOR.join(name for name in names if name)
    before = [name.strip() for name in (sent.label or "").split(SEPARATOR) if name.strip()]
    return sent.label if names == before else joined or None


def _text(one: Any) -> str | None:
    return None if one is None or not (one.label or "").strip() else str(one.label)


def _boxes(sample: Any, sent: Sent) -> tuple[Box, ...] | None:
    """The boxes; untouched ones with the pixels they were sent in. None where none are known."""
    found = _value(sample, BOXES)
    if found is None:
        return None
    known = {one.id: one for one in sent.boxes or ()}
    if not found.detections and sent.boxes is None:
        return None
    return tuple(_box(one, known, sent) for one in found.detections)


def _box(one: Any, known: dict[str, SentBox], sent: Sent) -> Box:
    before, share = known.get(one.id), tuple(float(value) for value in one.bounding_box)
    xyxy = before.xyxy if before is not None and before.share == share else pixels_of(share, sent.size)
    return Box(str(one.label), xyxy)


def _follow_box_tags(sample: Any, sent: Sent, found: Edited) -> None:
    """Tags on single boxes, of the truth and of the model."""
    truth, guesses = _value(sample, BOXES), _value(sample, PREDICTED_BOXES)
    if found.boxes is not None and truth is not None:
        kept = []
        for one, box in zip(truth.detections, found.boxes, strict=True):
            name = _wanted_class(one.tags, found, place=f"a box of {box.label}")
            if REJECT not in one.tags:
                kept.append(Box(name or box.label, box.xyxy))
        found.boxes = tuple(kept)
    known = {one.id: one for one in sent.predicted}
    for one in guesses.detections if guesses is not None else ():
        name = _wanted_class(one.tags, found, place=f"a predicted box of {one.label}")
        if ACCEPT in one.tags or name:
            box = _box(one, known, sent)
            found.boxes = (*(found.boxes or ()), Box(name or box.label, box.xyxy))
        elif REJECT in one.tags:
            found.rejected.append(str(one.label))


def _follow_tags(sample: Any, sent: Sent, found: Edited) -> None:
    tags = [tag for tag in sample.tags if tag not in OWN_TAGS]
    name = _wanted_class(tags, found, place="the image")
    asked = [*(tag for tag in _ALONE if tag in tags), *([RELABEL] if name else [])]
    if len(asked) > 1 or (ACCEPT in tags and REJECT in tags):
        found.problems.append(f"tags that contradict each other: {', '.join(sorted(tags))}")
        return
    found.tags = [tag for tag in tags if tag not in (*_ALONE, REJECT) and not tag.startswith(RELABEL)]
    if name:
        found.label = name
    elif REMOVE in tags:
        found.is_removed = True
    elif UNLABEL in tags:
        found.label, found.boxes, found.mask_HW, found.is_mask_gone = None, None, None, sent.mask is not None
    elif ACCEPT in tags:
        _accept(sample, sent, found)
    if REJECT in tags:
        found.rejected += _answers(sample) or []
        if not _answers(sample):
            found.problems.append("tagged 'reject', but no model's answer is there to strike out")


def _accept(sample: Any, sent: Sent, found: Edited) -> None:
    """The model's answer becomes the label, whatever kind it is."""
    boxes, mask, answers = _value(sample, PREDICTED_BOXES), _value(sample, PREDICTED_MASK), _answers(sample)
    if boxes is not None:
        known = {one.id: one for one in sent.predicted}
        found.boxes = tuple(_box(one, known, sent) for one in boxes.detections)
    elif mask is not None and (pixels := mask.get_mask()) is not None:
        found.mask_HW, found.is_mask_gone = np.asarray(pixels, np.uint8), False
    elif answers == [UNKNOWN]:
        found.problems.append("tagged 'accept', but the model answers 'unknown'; use relabel:CLASS")
    elif answers == ["anomaly"]:
        found.label = found.label if found.label not in (None, NORMAL) else DEFECT
    elif answers is not None:
        found.label = SEPARATOR.join(answers) or None
    else:
        found.problems.append("tagged 'accept', but no model's answer is there to take")


def _answers(sample: Any) -> list[str] | None:
    """The classes that the model gave the whole image; None where it gave no such answer."""
    one, several = _value(sample, PREDICTED), _value(sample, PREDICTED_LABELS)
    if several is not None:
        return [str(each.label) for each in several.classifications]
    return None if one is None else [str(one.label)]


def _wanted_class(tags: Iterable[str], found: Edited, *, place: str) -> str | None:
    """The class that ``relabel:CLASS`` names."""
    names = sorted({tag.removeprefix(RELABEL).strip() for tag in tags if tag.startswith(RELABEL)})
    if len(names) > 1 or "" in names:
        found.problems.append(f"{place}: relabel names {', '.join(names) or 'no class'}; one class is needed")
        return None
    return names[0] if names else None


def _value(sample: Any, field_name: str) -> Any:
    return sample[field_name] if sample.has_field(field_name) else None
