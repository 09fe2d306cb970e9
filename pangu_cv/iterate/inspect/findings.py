"""What is worth a person's look: doubt, likely label errors, duplicates, images that cannot be read.

Of an image that was looked at a few hundred bytes and its features stay, whatever its size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pangu_cv.data.kin import belonging
from pangu_cv.data.near_duplicates import near_duplicates
from pangu_cv.data.readers.mvtec import NORMAL
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.data.shown import SEPARATOR, classes_shown
from pangu_cv.iterate.inspect.dense_errors import against_boxes, against_mask
from pangu_cv.iterate.inspect.features_2d import Features, flat
from pangu_cv.iterate.inspect.label_errors import left_out_probabilities, left_out_tags, suspects
from pangu_cv.iterate.inspect.look import Look
from pangu_cv.iterate.inspect.model import Looker
from pangu_runtime.edge.doubt import certainty
from pangu_runtime.predictor import AnomalyPrediction, BoxPrediction, ClassPrediction, MaskPrediction, TagPrediction

Kind = Literal["duplicate", "alike"]
_MOST_COMPARED = 50_000  # thumbnails: their comparison takes N² time, 2.3 KB each


@dataclass(frozen=True, slots=True)
class Finding:
    """One image. ``doubt`` 0..1 (None where nothing decides), ``suspicion`` 0..1 that its label is wrong, and why.

    ``likely`` is the class that it probably shows, ``group`` the pictures that are the same or look so, ``xy`` its
    place in the flat view, ``faults`` what could not be read.
    """

    name: str
    sample: Sample
    sha256: str | None
    answer: str
    doubt: float | None
    suspicion: float = 0.0
    why: str = ""
    likely: str | None = None
    group: str | None = None
    xy: tuple[float, float] = (0.0, 0.0)
    faults: tuple[str, ...] = ()

    @property
    def urgency(self) -> float:
        """What is to be looked at first: unreadable, then likely errors, then doubts, then duplicates."""
        return max(2.0 * bool(self.faults), 1 + self.suspicion if self.suspicion else 0.0, self.doubt or 0.0)


class Collector:
    """Takes look after look, then says what they show together."""

    def __init__(self, dataset: Dataset, looker: Looker) -> None:
        self._looker = looker
        self._shown = classes_shown(dataset) if is_multilabel(dataset, looker.task) else None
        self._features = Features(len(dataset), looker.groups)
        self._found: list[Finding] = []
        self._thumbnails: list[np.ndarray | None] = []  # type: ignore[type-arg]
        self.notes: list[str] = []

    def take(self, look: Look) -> None:
        """Keep what is small."""
        self._features.add(len(self._found), look.features_D)
        full = len(self._thumbnails) >= _MOST_COMPARED
        self._thumbnails.append(None if full else look.thumbnail)
        doubt = None if look.prediction is None else 1 - certainty(look.prediction)
        suspicion, why = _contradicted(look)
        faults = tuple(fault for fault in (look.fault, look.mask_fault) if fault)
        told = answer_of(look)
        self._found.append(Finding(look.name, look.sample, look.sha256, told, doubt, suspicion, why, faults=faults))

    def done(self) -> tuple[Finding, ...]:
        """Every image in order, with what only all of them together tell; ``notes`` says what could not be told."""
        self._likely_errors()
        self._duplicates()
        places = flat(self._features.all_ND())
        for at, (x, y) in zip(self._features.places, places.tolist(), strict=True):
            self._found[at] = replace(self._found[at], xy=(x, y))
        return tuple(self._found)

    def _likely_errors(self) -> None:
        """By confident learning, where whole images have classes."""
        if self._looker.task in ("anomaly", "segment", "detect"):
            return
        try:
            if self._shown is None:
                self._likely_classes()
            else:
                self._likely_tags(self._shown)
        except ImportError:
            self.notes.append("likely label errors need torch: pip install 'pangu-cv[train]'")

    def _likely_classes(self) -> None:
        labelled = [(row, at) for row, at in enumerate(self._features.places) if self._found[at].sample.label]
        classes = sorted({str(self._found[at].sample.label) for _, at in labelled})
        if len(classes) < 2:
            return
        labels = np.array([classes.index(str(self._found[at].sample.label)) for _, at in labelled])
        features = self._features.all_ND()[[row for row, _ in labelled]]
        kin = self._kin([at for _, at in labelled])
        probabilities = left_out_probabilities(features, labels, groups=self._features.groups, kin=kin)
        for suspect in suspects(probabilities, labels):
            at, likely = labelled[suspect.at][1], classes[suspect.likely]
            why = f"labelled {self._found[at].sample.label}, looks like {likely} when left out"
            self._found[at] = replace(self._found[at], suspicion=suspect.margin, why=why, likely=likely)

    def _likely_tags(self, shown: dict[Sample, frozenset[str]]) -> None:
        """Each class by itself; of an image the strongest suspicion."""
        labelled = [(row, at) for row, at in enumerate(self._features.places) if self._found[at].sample in shown]
        classes = sorted({name for names in shown.values() for name in names})
        if not classes or len(labelled) < 2:
            return
        present = np.array([[name in shown[self._found[at].sample] for name in classes] for _, at in labelled])
        features = self._features.all_ND()[[row for row, _ in labelled]]
        kin = self._kin([at for _, at in labelled])
        probabilities = left_out_tags(features, present, groups=self._features.groups, kin=kin)
        for number, name in enumerate(classes):
            both = np.stack([1 - probabilities[:, number], probabilities[:, number]], 1)
            for suspect in suspects(both, present[:, number].astype(np.int64)):
                at = labelled[suspect.at][1]
                if suspect.margin > self._found[at].suspicion:
                    why = (
                        f"{name} is likely there, not labelled"
                        if suspect.likely
                        else f"{name} labelled, likely not there"
                    )
                    self._found[at] = replace(self._found[at], suspicion=suspect.margin, why=why)

    def _kin(self, places: Sequence[int]) -> list[str]:
        some = [self._found[at] for at in places]
        return belonging([one.sha256 or one.name for one in some], [one.sample.group for one in some])

    def _duplicates(self) -> None:
        same: dict[str, list[int]] = {}
        for at, one in enumerate(self._found):
            if one.sha256:
                same.setdefault(one.sha256, []).append(at)
        equal = [tuple(group) for group in same.values() if len(group) > 1]
        firsts = [None if (one.sha256 and same[one.sha256][0] != at) else self._thumbnails[at]
                  for at, one in enumerate(self._found)]  # fmt: skip
        self._name_groups(near_duplicates(firsts), "alike")
        self._name_groups(equal, "duplicate")
        if len(self._found) > _MOST_COMPARED:
            self.notes.append(f"near duplicates were looked for among the first {_MOST_COMPARED} images")

    def _name_groups(self, groups: Sequence[tuple[int, ...]], kind: Kind) -> None:
        for number, group in enumerate(groups, start=1):
            for at in group:
                self._found[at] = replace(self._found[at], group=f"{kind}-{number}")


def is_multilabel(dataset: Dataset, task: str | None) -> bool:
    """Whether an image's label names any number of classes, split on ``;``."""
    return task == "multilabel" or any(SEPARATOR in (sample.label or "") for sample in dataset)


def answer_of(look: Look) -> str:
    """The decision in a few words; empty where there is none."""
    found = look.prediction
    match found:
        case ClassPrediction():
            return f"{found.label} {found.score:.0%}"
        case TagPrediction():
            return ", ".join(found.labels) or "nothing"
        case BoxPrediction():
            return (
                ", ".join(f"{name} {score:.0%}" for name, score in zip(found.labels, found.scores_K, strict=True))
                or "nothing"
            )
        case AnomalyPrediction():
            return (
                f"{'anomaly' if found.is_anomalous else 'normal'} {found.score:.2f} (threshold {found.threshold:.2f})"
            )
        case MaskPrediction():
            return ", ".join(f"{name} {count} px" for name, count in found.pixels.items() if count) or "nothing"
        case _:
            return ""


def _contradicted(look: Look) -> tuple[float, str]:
    """How strongly the model's answer for this image alone speaks against its label, and why."""
    found, sample = look.prediction, look.sample
    said = None
    if isinstance(found, BoxPrediction) and sample.boxes is not None:
        said = against_boxes(sample.boxes, found)
    elif isinstance(found, MaskPrediction) and look.mask_HW is not None:
        said = against_mask(look.mask_HW, found)
    elif isinstance(found, AnomalyPrediction) and sample.label is not None and found.threshold > 0:
        if found.is_anomalous and sample.label == NORMAL:
            return float(np.clip(found.score / found.threshold - 1, 0, 1)), "labelled normal, scores like a defect"
        if not found.is_anomalous and sample.label != NORMAL:
            return float(
                np.clip(1 - found.score / found.threshold, 0, 1)
            ), "labelled a defect, scores like a normal image"
    return (said.strength, said.why) if said else (0.0, "")
