"""What is left once a student has learnt: its threshold or its bank, and how often it decides as its teacher does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pangu_cv.data.sample import Sample
from pangu_cv.distill.images import Seen
from pangu_cv.distill.views import Views
from pangu_cv.errors import ImageError
from pangu_cv.evaluate import TorchDecider
from pangu_cv.features import read_ahead
from pangu_cv.progress import bar
from pangu_cv.tasks import TaskModel
from pangu_cv.tasks.anomaly import AnomalyModel
from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.conformal import ConformalThreshold
from pangu_cv.tasks.normal_images import learn, named
from pangu_cv.tasks.normality import Normality
from pangu_cv.tasks.saved import SavedModel, parent_of
from pangu_runtime.compare import compare
from pangu_runtime.decode import DecodeSpec, decode

_UNKNOWN_AS_TAUGHT = "the threshold is set such that as many images are answered unknown as the teacher answers so"


@dataclass(frozen=True)
class Agreement:
    """On images that were held out: how many, the share decided as the teacher does, the mean largest difference of a
    score, and of what is not background the mean IoU (masks) or of boxes (detections)."""

    images: int
    same: float
    score: float
    overlap: float


def agreement(student: TaskModel, teacher: TaskModel, paths: Sequence[Path], *, spec: DecodeSpec) -> Agreement:
    """Decide by both."""
    sides = TorchDecider(teacher), TorchDecider(student)
    found = []
    with bar("comparing with the teacher") as progress:
        for done, image in enumerate(read_ahead(paths, lambda path: decode(path, spec=spec)), start=1):
            if not isinstance(image, ImageError):
                found.append(compare(*(side.run(image[None]) for side in sides)))
            progress(done, len(paths))
    scores = [one.score for one in found if np.isfinite(one.score)]
    overlaps = [1 - max(one.mask, one.box) for one in found]
    return Agreement(
        len(found),
        float(np.mean([one.flips == 0 for one in found])),
        float(np.mean(scores)) if scores else 0.0,
        float(np.mean(overlaps)),
    )


def calibrator(student: SavedModel, teacher: SavedModel, seen: Seen) -> Callable[[int], SavedModel]:
    """What fits a student's calibration to so many of the first images, in place: the threshold of "unknown" of a
    classifier, bank and threshold of an anomaly detector; others need nothing.

    Held-out images come last. A student is compared with its teacher as calibrated without them, since an image that
    lies in its bank says nothing about new ones; what is saved has learnt from all.
    """
    model = student.model
    if isinstance(model, AnomalyModel):
        bank_of, normal = model, seen.normal
        return lambda images: _with_bank(student, bank_of, seen, [p for p in seen.views.paths[:images] if p in normal])
    if isinstance(model, ClassifyModel) and isinstance(teacher.model, ClassifyModel) and teacher.model.calibration:
        asked, doubting = teacher.model.calibration, model
        doubts_2N = np.stack([_doubts(one, seen.views) for one in (teacher.model, model)])

        def with_threshold(images: int) -> SavedModel:
            doubting.install(_as_often_unknown(asked, doubts_2N[:, :images]))
            return student

        return with_threshold
    return lambda images: student


def _with_bank(student: SavedModel, model: AnomalyModel, seen: Seen, normal: Sequence[Path]) -> SavedModel:
    """The student with a memory of these images, those of one group counting once."""
    samples = [Sample(path, label="good", group=seen.groups.get(path)) for path in normal]
    own = named(samples, Normality.empty(model), root=seen.views.paths[0].parent)
    learned = learn(model, Normality.empty(model), own, decode_spec=seen.views.spec)
    return replace(student, normality=learned.normality)


def _as_often_unknown(asked: ConformalThreshold, doubts_2N: NDArray[np.float64]) -> ConformalThreshold:
    """The student's threshold, from the teacher's doubts and its own about the same images."""
    teacher_N, student_N = doubts_2N[:, np.isfinite(doubts_2N).all(0)]
    value = float(np.quantile(student_N, 1 - float(np.mean(teacher_N > asked.value))))
    return replace(asked, value=value, caveat=_UNKNOWN_AS_TAUGHT)


@torch.no_grad()
def _doubts(model: ClassifyModel, views: Views) -> NDArray[np.float64]:
    """float64[N] of all images, NaN where one can no longer be read."""
    decider: Any = TorchDecider(model)
    images = read_ahead(views.paths, lambda path: decode(path, spec=views.spec))
    return np.array([np.nan if isinstance(i, ImageError) else 1 - decider.run(i[None])["scores"].max() for i in images])


def parent(saved: SavedModel, student: TaskModel) -> dict[str, Any]:
    """Whose weights the student carries: the teacher's own, or its network's with the teacher's beside them."""
    if student.backbone.config.name == saved.model.backbone.config.name:
        return dict(saved.parent)
    own = parent_of(student)
    return own | {"licence": f"{own['licence']}; taught by a model of {saved.parent['licence']}"}
