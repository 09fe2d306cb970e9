"""What is left once a student has learnt: its threshold or its bank, and how often it decides as its teacher does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pangu_cv.data.sample import Sample
from pangu_cv.distill.views import Views
from pangu_cv.errors import DataError, ImageError
from pangu_cv.evaluate import TorchDecider
from pangu_cv.features import read_ahead
from pangu_cv.progress import bar
from pangu_cv.tasks import TaskModel
from pangu_cv.tasks.anomaly import AnomalyModel
from pangu_cv.tasks.classify import ClassifyModel
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


def calibrated(student: SavedModel, teacher: SavedModel, views: Views, *, normal: frozenset[Path]) -> SavedModel:
    """A classifier's threshold of "unknown", an anomaly detector's bank and threshold; others need nothing."""
    model = student.model
    if isinstance(model, AnomalyModel):
        paths = _normal_images(teacher, views, normal)
        samples = [Sample(path, label="good") for path in paths]
        own = named(samples, Normality.empty(model), root=views.paths[0].parent)
        learned = learn(model, Normality.empty(model), own, decode_spec=views.spec)
        return replace(student, normality=learned.normality)
    if isinstance(model, ClassifyModel) and isinstance(teacher.model, ClassifyModel) and teacher.model.calibration:
        doubts = [_doubts(one, views) for one in (teacher.model, model)]
        share = float(np.mean(doubts[0] > teacher.model.calibration.value))
        value = float(np.quantile(doubts[1], 1 - share))
        model.install(replace(teacher.model.calibration, value=value, caveat=_UNKNOWN_AS_TAUGHT))
    return student


def _normal_images(teacher: SavedModel, views: Views, normal: frozenset[Path]) -> list[Path]:
    """Images known to be normal; where nothing is known those that the teacher calls so."""
    known = [path for path in views.paths if path in normal]
    if known:
        return known
    decider, found = TorchDecider(teacher.model), []
    with bar("looking for normal images") as progress:
        images = read_ahead(views.paths, lambda path: decode(path, spec=views.spec))
        for done, (path, image) in enumerate(zip(views.paths, images, strict=True), start=1):
            if not isinstance(image, ImageError) and not bool(decider.run(image[None])["is_anomalous"][0]):
                found.append(path)
            progress(done, len(views.paths))
    if len(found) < 2:
        raise DataError(f"the teacher calls {len(found)} of {len(views.paths)} images normal; the student needs more")
    return found


@torch.no_grad()
def _doubts(model: ClassifyModel, views: Views) -> Any:
    decider: Any = TorchDecider(model)
    images = read_ahead(views.paths, lambda path: decode(path, spec=views.spec))
    return np.array([1 - decider.run(i[None])["scores"].max() for i in images if not isinstance(i, ImageError)])


def parent(saved: SavedModel, student: TaskModel) -> dict[str, Any]:
    """Whose weights the student carries: the teacher's own, or its network's with the teacher's beside them."""
    if student.backbone.config.name == saved.model.backbone.config.name:
        return dict(saved.parent)
    own = parent_of(student)
    return own | {"licence": f"{own['licence']}; taught by a model of {saved.parent['licence']}"}
