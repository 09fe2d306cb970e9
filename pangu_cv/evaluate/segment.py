"""A segmenter on a dataset."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.sample import Sample
from pangu_cv.evaluate.decider import Decider, Evaluated, Outputs, class_mask, decide_all, is_masked
from pangu_cv.features import Progress
from pangu_cv.metrics.segmentation import SegmentationOutcome, confusion
from pangu_runtime.decode import DecodeSpec


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

    def keep(sample: Sample, image: NDArray[np.uint8], out: Outputs) -> tuple[NDArray[np.int64], float]:
        truth, mask = class_mask(sample, image.shape[:2], classes=len(classes)), out["mask"][0]
        surest = float(out["confidence"][0][mask > 0].max(initial=0))
        return confusion(truth, mask, classes=len(classes)), surest

    decided = decide_all(decider, masked, keep, spec=decode_spec, needs=" and has a mask", progress=progress)
    found, confidences = zip(*decided.rows, strict=True)
    outcome = SegmentationOutcome(tuple(classes), decided.paths, np.stack(found), np.array(confidences))
    return Evaluated(outcome, decided.skipped)
