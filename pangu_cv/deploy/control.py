"""What a cheaper graph costs, in points: of the task's figure where labels are known, else of decisions that differ.

Never on the test part: a graph chosen on it would be measured on what chose it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.data.shown import classes_shown
from pangu_cv.deploy.left_out import AsLeftOut, judges, shifts_of
from pangu_cv.errors import CertificateError, DataError, ImageError
from pangu_cv.evaluate import (
    Decider,
    evaluate_anomaly,
    evaluate_classify,
    evaluate_detect,
    evaluate_multilabel,
    evaluate_segment,
)
from pangu_cv.features import read_ahead
from pangu_cv.metrics.bootstrap import value
from pangu_cv.tasks import TaskModel
from pangu_cv.tasks.anomaly import AnomalyModel
from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.saved import SavedModel
from pangu_runtime.compare import SAME_BOX, compare, overlap
from pangu_runtime.decode import DecodeSpec, decode

Outputs = dict[str, NDArray[Any]]
MOST_IMAGES = 400
FLIPS_PER_POINT = 2
MOST_MOVED = 0.01
_LARGE = ("map", "mask", "confidence")


@dataclass(frozen=True)
class Loss:
    """``points`` lost of ``figure``, on ``images``; ``flips`` of them are decided differently.

    ``figure`` is None where no label is known: points are then the share of decisions that differ, or of masks and
    boxes the share that does not overlap. Normal images alone give no figure of anomaly detection; they are shown
    mirrored, as new ones. ``moved`` is how far the typical anomaly score moved, as a share of it. ``left_out`` of the
    images have taught the head and are judged as by a head without them.
    """

    points: float
    flips: int
    images: int
    figure: str | None
    before: float | None = None
    after: float | None = None
    is_dense: bool = False
    moved: float = 0.0
    left_out: int = 0

    def within(self, limit: float) -> bool:
        """Whether at most ``limit`` points are lost, and at most twice that share of decisions differs.

        Gains and losses cancel out in a figure, so it alone would let many decisions change. Masks and boxes always
        differ somewhere: there the figure is all. The typical anomaly score must not move by more than a
        hundredth: rounding adds to every distance, and the rate of false alarms is certified for distances without it.
        """
        if not self.moved <= MOST_MOVED:
            return False
        return self.points <= limit and (self.is_dense or 100 * self.flips <= FLIPS_PER_POINT * limit * self.images)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Control:
    """Images to control on, and what the graph in full precision decides on them."""

    def __init__(self, saved: SavedModel, samples: Sequence[Sample], reference: Decider) -> None:
        """Raises CertificateError where no image can be read."""
        self._model, self._spec = saved.model, saved.provenance.decode
        self._samples = judges(saved, samples, most=MOST_IMAGES)
        self._is_dense = saved.model.config.kind in ("segment", "detect")
        self._shifts = shifts_of(saved, self._samples, reference)
        self._reference, self._expected = AsLeftOut(reference, self._shifts), []
        watched = self._watched(reference)
        self._before = self._figure(watched)
        if self._before is None:
            watched = self._watched(reference)
            self._run(watched)
        self._expected = watched.seen

    @property
    def images(self) -> int:
        """How many there are, unreadable ones too."""
        return len(self._samples)

    def loss(self, decider: Decider) -> Loss:
        """What ``decider`` loses against full precision."""
        watched = self._watched(decider)
        if self._before is None:
            self._run(watched)
            return self._loss(100 * float(np.mean(watched.apart)), watched)
        after = self._figure(watched)
        assert after is not None, "what is defined for one model on these images is for the other"
        (name, first), second = self._before, after[1]
        return self._loss(100 * (first - second), watched, figure=name, before=first, after=second)

    def _loss(self, points: float, watched: "_Watched", **figure: Any) -> Loss:
        found = Loss(points, watched.flips, len(watched.seen), figure.pop("figure", None), **figure)
        return replace(found, is_dense=self._is_dense, moved=watched.moved, left_out=len(self._shifts))

    def _watched(self, decider: Decider) -> "_Watched":
        return _Watched(AsLeftOut(decider, self._shifts), self._reference, expected=self._expected)

    def _figure(self, decider: Decider) -> tuple[str, float] | None:
        try:
            outcome = _outcome(self._model, decider, self._samples, self._spec)
        except DataError:
            return None  # no labels, or not of this model's classes
        name, figure = next(iter(outcome.figures.items()))
        found = value(figure, len(outcome.paths))
        return None if found is None else (name, found)

    def _run(self, watched: "_Watched") -> None:
        for image in read_ahead([one.path for one in self._samples], lambda path: decode(path, spec=self._spec)):
            if not isinstance(image, ImageError):
                # A detector knows the normals it learnt by heart: their distance is 0, far from any decision.
                mirrored = image[:, ::-1] if isinstance(self._model, AnomalyModel) else image
                watched.run(np.ascontiguousarray(mirrored)[None])
        if not watched.seen:
            raise CertificateError(
                "none of the images to control a precision on can be read; give --calibrate a folder"
            )


class _Watched:
    """A decider whose answers are compared with those expected, one image after the other."""

    def __init__(self, decider: Decider, reference: Decider, *, expected: list[Outputs]) -> None:
        self._decider, self._reference, self._expected = decider, reference, expected
        self.seen: list[Outputs] = []
        self.apart: list[float] = []
        self.flips = 0
        self._ratios: list[float] = []

    @property
    def moved(self) -> float:
        """How far the median anomaly score lies from the expected one, as a share of it; 0 for other tasks."""
        return abs(float(np.median(self._ratios)) - 1) if self._ratios else 0.0

    def run(self, images_NHW3: NDArray[np.uint8]) -> Outputs:
        """Outputs by name, of one image."""
        found = self._decider.run(images_NHW3)
        if self._expected:
            # Masks are too large to keep, so they are made again.
            known = self._reference.run(images_NHW3) if "mask" in found else self._expected[len(self.seen)]
            flipped = compare(known, {name: found[name] for name in known}).flips
            self.flips += flipped
            if "score" in known:
                self._ratios.append(float(found["score"][0]) / max(float(known["score"][0]), 1e-6))
            self.apart.append(_apart(known, found, flipped))
        self.seen.append({name: one for name, one in found.items() if name not in _LARGE})
        return found


def _outcome(model: TaskModel, decider: Decider, samples: Sequence[Sample], spec: DecodeSpec) -> Any:
    if isinstance(model, AnomalyModel):
        return evaluate_anomaly(decider, samples, asked_rate=model.config.false_alarm_rate, decode_spec=spec).outcome
    classes = model.classes
    if isinstance(model, ClassifyModel):
        rate = model.certified_rate
        return evaluate_classify(decider, samples, classes=classes, decode_spec=spec, unknown_rate=rate).outcome
    if model.config.kind == "multilabel":
        shown = classes_shown(Dataset(Path(), "csv", tuple(samples)))
        return evaluate_multilabel(decider, shown, classes=classes, decode_spec=spec).outcome
    if model.config.kind == "segment":
        return evaluate_segment(decider, samples, classes=classes, decode_spec=spec).outcome
    return evaluate_detect(decider, samples, classes=classes, decode_spec=spec).outcome


def _apart(expected: Outputs, found: Outputs, flipped: int) -> float:
    """0 for the same answer to 1 for another one."""
    if "mask" in expected:
        union = int(np.sum((expected["mask"] > 0) | (found["mask"] > 0)))
        return min(1.0, float(np.sum(expected["mask"] != found["mask"])) / union) if union else 0.0
    if "boxes_xyxy" not in expected:
        return float(flipped)
    both = int(expected["count"][0]) + int(found["count"][0])
    return 1 - 2 * _matched(expected, found) / both if both else 0.0


def _matched(expected: Outputs, found: Outputs) -> int:
    """Boxes found that are the same as expected ones."""
    free, matched = set(range(int(found["count"][0]))), 0
    for at in range(int(expected["count"][0])):
        mine, label = expected["boxes_xyxy"][0][at], expected["labels"][0][at]
        same = [
            i for i in free if found["labels"][0][i] == label and overlap(mine, found["boxes_xyxy"][0][i]) >= SAME_BOX
        ]
        if same:
            free.remove(same[0])
            matched += 1
    return matched
