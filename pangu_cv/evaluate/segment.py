"""A segmenter on a dataset."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError
from pangu_cv.evaluate.decider import Decider, Evaluated, Outputs, class_mask, decide_all, is_masked
from pangu_cv.features import Progress
from pangu_cv.metrics.pixel_confidence import PixelConfidence
from pangu_cv.metrics.segmentation import SegmentationOutcome, confusion, pixels_of_classes
from pangu_runtime.decode import DecodeSpec

_DEFECTS = ("background", "defect")  # what masks that no list of classes goes with are taken to show


def require_same_masks(dataset: Dataset, classes: Sequence[str]) -> None:
    """Raise DataError where the numbers in the dataset's masks mean other classes than the model's.

    Of two classes any value but 0 is the second, so ``defect`` stands for whatever the other side calls it.
    """
    named, known = dataset.mask_classes or _DEFECTS, tuple(classes)
    if named == known or (len(named) == len(known) == 2 and _DEFECTS in (named, known)):
        return
    advice = "measure on masks of the model's classes, or finetune on masks of these"
    if sorted(named) == sorted(known):
        advice = "number the masks, and their list of classes, in the model's order"
    raise DataError(
        f"{dataset.root}: the numbers in masks mean {_numbered(named)}; to the model they mean {_numbered(known)}. "
        f"The figures would be wrong: {advice}"
    )


def _numbered(classes: Sequence[str]) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(classes))


def evaluate_segment(
    decider: Decider,
    samples: Sequence[Sample],
    *,
    classes: Sequence[str],
    decode_spec: DecodeSpec,
    progress: Progress | None = None,
) -> Evaluated[SegmentationOutcome]:
    """Decide every image that has a mask, or is normal, and compare pixel by pixel; one image at a time."""
    masked = [sample for sample in samples if is_masked(sample)]
    pixels = PixelConfidence(len(classes))
    total_CC = np.zeros((len(classes), len(classes)), np.int64)

    def keep(sample: Sample, image: NDArray[np.uint8], out: Outputs) -> tuple[NDArray[np.int32], float]:
        truth, mask = class_mask(sample, image.shape[:2], classes=len(classes)), out["mask"][0]
        is_called_HW = (mask > 0) & (truth < len(classes))
        pixels.update(truth, mask, out["confidence"][0])
        surest = float(out["confidence"][0][is_called_HW].max(initial=0))
        confusion_CC = confusion(truth, mask, classes=len(classes))
        np.add(total_CC, confusion_CC, out=total_CC)
        return pixels_of_classes(confusion_CC), surest

    decided = decide_all(decider, masked, keep, spec=decode_spec, needs=" and has a mask", progress=progress)
    found, confidences = zip(*decided.rows, strict=True)
    outcome = SegmentationOutcome(
        tuple(classes), decided.paths, total_CC, np.stack(found), np.array(confidences), pixels, decided.groups
    )
    return Evaluated(outcome, decided.skipped)
