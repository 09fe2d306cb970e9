"""Any model, trained or exported, on any dataset: the same decisions, measured the same way."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pangu_cv.data.masks import read_mask
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError, ImageError
from pangu_cv.features import Progress, Skipped, read_ahead
from pangu_cv.metrics import AnomalyOutcome, ClassificationOutcome, PixelAuroc
from pangu_cv.tasks import TaskModel
from pangu_cv.tasks.anomaly import NORMAL, AnomalyModel
from pangu_runtime.bundle import CONTRACT
from pangu_runtime.decode import DecodeSpec, decode

Outputs = dict[str, NDArray[Any]]
Outcome = TypeVar("Outcome")


class Decider(Protocol):
    """Anything that maps uint8[N,H,W,3] to the contract's outputs; ``pangu_runtime.Predictor`` is one."""

    def run(self, images_NHW3: NDArray[np.uint8]) -> Outputs:
        """Outputs by name."""
        ...


class TorchDecider:
    """A trained model as a ``Decider``: the very module that is exported."""

    def __init__(self, model: TaskModel) -> None:
        self.model = model

    def run(self, images_NHW3: NDArray[np.uint8]) -> Outputs:
        """Outputs by name."""
        images = torch.from_numpy(images_NHW3)
        with torch.inference_mode():
            if isinstance(self.model, AnomalyModel):
                outputs = self.model(images, self.model.threshold)
                return dict(zip(CONTRACT["anomaly"], [o.numpy() for o in outputs], strict=True))
            outputs = self.model(images)
            return dict(zip(CONTRACT["classify"], [o.numpy() for o in outputs], strict=True))


@dataclass(frozen=True)
class Evaluated(Generic[Outcome]):
    """An outcome, and the images that could not be read."""

    outcome: Outcome
    skipped: tuple[Skipped, ...]


def test_samples(dataset: Dataset) -> tuple[Sample, ...]:
    """The images to be measured on: the test split, else val, else all labelled ones."""
    return dataset.split("test") or dataset.split("val") or tuple(s for s in dataset if s.label is not None)


def evaluate_classify(
    decider: Decider,
    samples: Sequence[Sample],
    *,
    classes: Sequence[str],
    decode_spec: DecodeSpec,
    progress: Progress | None = None,
) -> Evaluated[ClassificationOutcome]:
    """Decide every image and compare with its label.

    Raises DataError for a label the model does not know.
    """
    unknown = sorted({str(s.label) for s in samples} - set(classes))
    if unknown:
        raise DataError(f"the model does not know the class(es) {', '.join(unknown)}; it knows: {', '.join(classes)}")
    kept, skipped = [], []
    scores = []
    for done, (sample, image) in enumerate(_images(samples, decode_spec), start=1):
        if isinstance(image, ImageError):
            skipped.append(Skipped(sample.path, image.reason, str(image)))
        else:
            kept.append(sample)
            scores.append(decider.run(image[None])["scores"][0])
        if progress:
            progress(done, len(samples))
    if not kept:
        raise DataError("none of the images to evaluate on can be read")
    truth = np.array([list(classes).index(str(s.label)) for s in kept])
    outcome = ClassificationOutcome(tuple(classes), tuple(str(s.path) for s in kept), np.stack(scores), truth)
    return Evaluated(outcome, tuple(skipped))


def evaluate_anomaly(
    decider: Decider,
    samples: Sequence[Sample],
    *,
    asked_rate: float,
    decode_spec: DecodeSpec,
    progress: Progress | None = None,
) -> Evaluated[AnomalyOutcome]:
    """Decide every image; label ``good`` is normal, any other a defect; masks give the pixel AUROC, one at a time."""
    pixels = PixelAuroc()
    kept, skipped, outputs = [], [], []
    has_masks = any(s.mask is not None for s in samples)
    for done, (sample, image) in enumerate(_images(samples, decode_spec), start=1):
        if isinstance(image, ImageError):
            skipped.append(Skipped(sample.path, image.reason, str(image)))
        else:
            out = decider.run(image[None])
            kept.append(sample)
            outputs.append((float(out["score"][0]), bool(out["is_anomalous"][0]), float(out["threshold_applied"][0])))
            if has_masks and (sample.label == NORMAL or sample.mask is not None):
                pixels.update(out["map"][0], matching_mask(sample, out["map"][0].shape))
        if progress:
            progress(done, len(samples))
    if not kept:
        raise DataError("none of the images to evaluate on can be read")
    scores, flags, thresholds = zip(*outputs, strict=True)
    outcome = AnomalyOutcome(
        paths=tuple(str(s.path) for s in kept),
        scores_N=np.array(scores),
        is_defect_N=np.array([s.label != NORMAL for s in kept]),
        is_anomalous_N=np.array(flags),
        threshold=thresholds[0],
        defect_N=tuple(str(s.label) for s in kept),
        asked_false_alarm_rate=asked_rate,
        pixels=pixels.scores() if has_masks else None,
    )
    return Evaluated(outcome, tuple(skipped))


def matching_mask(sample: Sample, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """The sample's mask bool[H,W], None where it is normal; raises DataError for another size than its image's."""
    if sample.mask is None:
        return None
    mask = read_mask(sample.mask)
    if mask.shape != shape:
        raise DataError(
            f"{sample.mask}: {mask.shape[1]} x {mask.shape[0]} pixels, its image is {shape[1]} x {shape[0]}; "
            "'pangu-cv data check' lists all such masks"
        )
    return mask


def _images(samples: Sequence[Sample], spec: DecodeSpec) -> Any:
    def read(path: Path) -> NDArray[np.uint8]:
        return decode(path, spec=spec)

    return zip(samples, read_ahead([s.path for s in samples], read), strict=True)


class Loaders:
    """What a report of an outcome shows, by path: the image, the model's map, the mask."""

    def __init__(self, decider: Decider, spec: DecodeSpec, samples: Sequence[Sample]) -> None:
        self._decider, self._spec = decider, spec
        self._samples = {str(s.path): s for s in samples}

    def image(self, path: str) -> NDArray[np.uint8]:
        """uint8[H,W,3]."""
        return decode(Path(path), spec=self._spec)

    def map(self, path: str) -> NDArray[np.float64]:
        """The anomaly map float64[H,W]."""
        return np.asarray(self._decider.run(self.image(path)[None])["map"][0], np.float64)

    def mask(self, path: str) -> NDArray[np.bool_] | None:
        """The true mask bool[H,W], None where the sample has none."""
        return matching_mask(self._samples[path], self.image(path).shape[:2])
