"""Back from FiftyOne: what people changed, laid over the dataset as it is now; nothing of theirs is written to.

Three states meet: what was sent, what FiftyOne says now, what the dataset on disk says now. A field that only one side
changed is as that side says; where both did, differently, the dataset's word stands and the conflict is told.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from pangu_cv.data.changes import Change, box_changes, renamed
from pangu_cv.data.duplicates import relative
from pangu_cv.data.readers.csv_table import SPLITS
from pangu_cv.data.sample import Box, Dataset, Sample
from pangu_cv.iterate.inspect.edits import Edited, edited
from pangu_cv.iterate.inspect.sent import BACK, FIELD, Sent, mask_digest
from pangu_cv.iterate.inspect.shown import (
    BOXES,
    LABEL,
    LABELS,
    MASK,
    PREDICTED,
    PREDICTED_BOXES,
    PREDICTED_LABELS,
    PREDICTED_MASK,
    sent_on,
)

_T = TypeVar("_T")
_READ = (LABEL, LABELS, BOXES, MASK, PREDICTED, PREDICTED_LABELS, PREDICTED_BOXES, PREDICTED_MASK, FIELD, BACK)
_TEXTS = ("split", "group", "caption")


@dataclass
class Collected:
    """The dataset with the changes in it, images that are gone apart, what changed, and what could not be followed.

    ``states`` are digests of what people left on samples, by their id in FiftyOne, conflicts aside.
    """

    dataset: Dataset
    missing: tuple[Sample, ...] = ()
    changes: tuple[Change, ...] = ()
    conflicts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    states: dict[str, str] = field(default_factory=dict)


@dataclass
class _Work:
    now: dict[str, Sample]
    root: Path
    scratch: Path
    by: str
    is_numbered: bool
    changes: list[Change] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    removed: set[str] = field(default_factory=set)
    gone: dict[str, Sample] = field(default_factory=dict)
    strangers: list[str] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    masks: int = 0


def collect(target: Any, dataset: Dataset, *, scratch: Path, by: str = "") -> Collected:
    """What FiftyOne's ``target`` says of ``dataset`` as it is read now; new masks are written to ``scratch``."""
    now = {relative(sample.path, dataset.root): sample for sample in dataset}
    work = _Work(now, dataset.root, scratch, by, bool(dataset.mask_classes))
    seen: set[str] = set()
    for sample in target.select_fields(_fields(target)):
        sent = sent_on(sample)
        if sent is None:
            work.strangers.append(str(sample.filepath))
        elif sent.name not in seen:  # a sample copied within FiftyOne counts once
            seen.add(sent.name)
            _merge(sample, sent, work)
    kept = tuple(work.now[name] for name in now if name not in work.removed)
    there = {name: one for name, one in work.gone.items() if name not in work.removed}
    missing = tuple(one for one in there.values() if not one.path.is_file())
    back = tuple(one for one in there.values() if one.path.is_file())
    result = replace(dataset, samples=(*kept, *back))
    notes = [*_notes(work, set(now) - seen, back, missing), *renamed(work.changes, result.classes)]
    return Collected(result, missing, tuple(work.changes), tuple(work.conflicts), tuple(notes), work.states)


def mark_collected(target: Any, collected: Collected) -> None:
    """Note on the samples what was brought back of them, once it is kept: only what changes after that is open."""
    if collected.states:
        target.set_values(BACK, collected.states, key_field="id", progress=False)


def uncollected(target: Any, *, most: int = 20) -> int:
    """How many samples people have touched since they were sent or brought back last; counting ends at ``most``."""
    return sum(1 for _, _ in zip(_touched(target.select_fields(_fields(target))), range(most), strict=False))


def _touched(view: Any) -> Iterator[str]:
    for sample in view:
        sent = sent_on(sample)
        if sent is None:
            continue
        found, back = edited(sample, sent), _text(sample, BACK)
        is_open = _is_touched(sample, sent, found) if back is None else _state(sample, sent, found) != back
        if is_open:
            yield sent.name


def _is_touched(sample: Any, sent: Sent, found: Edited) -> bool:
    before = (sent.label, sent.true_boxes())
    same = (found.label, _unless_unreadable(found, sent)) == before and found.mask_HW is None
    texts = all(_text(sample, name) == getattr(sent, name) for name in _TEXTS)
    asked = found.is_mask_gone or found.is_removed or found.rejected or found.tags or found.problems
    return bool(not same or not texts or asked)


def _state(sample: Any, sent: Sent, found: Edited) -> str:
    """Digest of all that people say of an image."""
    mask = None if found.mask_HW is None else mask_digest(found.mask_HW)
    boxes = [(box.label, box.xyxy) for box in _unless_unreadable(found, sent) or ()]
    asked = [found.is_mask_gone, found.is_removed, found.rejected, found.tags, found.problems]
    texts = [_text(sample, name) for name in _TEXTS]
    return hashlib.sha256(json.dumps([found.label, boxes, mask, asked, texts]).encode()).hexdigest()


def _fields(target: Any) -> list[str]:
    """What is read back: neither heat maps nor features, so that memory stays small."""
    return [name for name in (*_READ, *_TEXTS) if target.has_field(name)]


def _merge(sample: Any, sent: Sent, work: _Work) -> None:
    """One image: its fields one after another."""
    name = sent.name
    now = work.now.get(name)
    is_here = now is not None
    if now is None:
        mask = Path(sent.mask_path) if sent.mask_path else None
        now = Sample(Path(sent.path), sent.label, sent.split, mask, sent.caption, sent.group, sent.true_boxes())
    wanted, conflicts = edited(sample, sent), len(work.conflicts)
    work.conflicts += [f"{name}: {problem}" for problem in wanted.problems]
    new = _with_texts(sample, sent, now, work)
    label = _choice(name, "label", sent.label, wanted.label, now.label, work)
    boxes = _choice(name, "boxes", sent.true_boxes(), _unless_unreadable(wanted, sent), now.boxes, work)
    if label != now.label:
        work.changes.append(Change(name, "label", now.label, label, work.by))
    if boxes != now.boxes:
        work.changes += box_changes(name, now.boxes or (), boxes or (), work.by)
    new = replace(new, label=label, boxes=boxes, mask=_mask(name, sent, wanted, now, work))
    work.changes += [Change(name, "rejected", None, each, work.by) for each in wanted.rejected]
    work.changes += [Change(name, "tag", None, tag, work.by) for tag in wanted.tags]
    if wanted.is_removed:
        work.removed.add(name)
        work.changes.append(Change(name, "image", "there", None, work.by))
    if is_here:
        work.now[name] = new
    else:
        work.gone[name] = new
    if len(work.conflicts) == conflicts and (_is_touched(sample, sent, wanted) or _text(sample, BACK)):
        work.states[str(sample.id)] = _state(sample, sent, wanted)


def _unless_unreadable(wanted: Edited, sent: Sent) -> tuple[Box, ...] | None:
    """Boxes of an image that could not be read were not sent, so that nothing comes back of them."""
    return wanted.boxes if sent.size[0] else sent.true_boxes()


def _with_texts(sample: Any, sent: Sent, now: Sample, work: _Work) -> Sample:
    found: dict[str, Any] = {}
    for name in _TEXTS:
        text = _text(sample, name)
        if name == "split" and text is not None:
            if text.lower() not in SPLITS:
                work.conflicts.append(f"{sent.name}: split '{text}' is unknown; allowed are train, val and test")
                continue
            text = SPLITS[text.lower()]
        before = getattr(now, name)
        found[name] = _choice(sent.name, name, getattr(sent, name), text, before, work)
        if found[name] != before:
            work.changes.append(Change(sent.name, name, before, found[name], work.by))  # type: ignore[arg-type]
    return replace(now, **found)


def _text(sample: Any, name: str) -> str | None:
    return (sample[name] or None) if sample.has_field(name) else None


def _choice(image: str, name: str, sent: _T, wanted: _T, now: _T, work: _Work) -> _T:
    """Whichever side moved; the dataset's word where both did."""
    if wanted in (sent, now):
        return now
    if now == sent:
        return wanted
    work.conflicts.append(
        f"{image}: {name} is {now!r} in the dataset by now, {wanted!r} in FiftyOne; the dataset's stays"
    )
    return now


def _mask(name: str, sent: Sent, wanted: Edited, now: Sample, work: _Work) -> Path | None:
    """The mask: the file it was, or a new one where its pixels changed."""
    before = None if sent.mask_path is None else Path(sent.mask_path)
    if wanted.mask_HW is None and not wanted.is_mask_gone:
        return now.mask
    if now.mask != before:
        work.conflicts.append(f"{name}: the mask is another file in the dataset by now; the dataset's stays")
        return now.mask
    if wanted.mask_HW is None:
        work.changes.append(Change(name, "mask", sent.mask, None, work.by))
        return None
    (height, width), (own_width, own_height) = wanted.mask_HW.shape[:2], sent.size
    if (width, height) != (own_width, own_height):
        work.conflicts.append(f"{name}: the mask has {width} x {height} pixels, its image {own_width} x {own_height}")
        return now.mask
    work.masks += 1
    path = work.scratch / f"{work.masks:06d}.png"
    # Where the dataset names no classes a mask is black and white, to be seen.
    pixels = wanted.mask_HW if work.is_numbered else (wanted.mask_HW > 0).astype(np.uint8) * 255
    Image.fromarray(pixels).save(path)
    work.changes.append(Change(name, "mask", sent.mask, mask_digest(wanted.mask_HW), work.by))
    return path


def _notes(work: _Work, new: set[str], back: Sequence[Sample], missing: Sequence[Sample]) -> Iterator[str]:
    if missing:
        yield f"{len(missing)} images are gone since and stay in the version as missing; first {missing[0].path}"
    if back:
        yield f"{len(back)} images are no longer named by the dataset, but there: they were kept; first {back[0].path}"
    if new:
        yield f"{len(new)} images came to the dataset since it was sent and were taken as they are"
    if work.strangers:
        yield (
            f"{len(work.strangers)} samples were added to FiftyOne by another hand and were left out; first "
            f"{work.strangers[0]}"
        )
