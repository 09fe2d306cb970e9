"""A segmenter on a dataset."""

from collections.abc import Sequence

import numpy as np

from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError, ImageError
from pangu_cv.evaluate.decider import Decider, Evaluated, class_mask, is_masked, read_images
from pangu_cv.features import Progress, Skipped
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
    paths, found, confidences, skipped = [], [], [], []
    for done, (sample, image) in enumerate(read_images(masked, decode_spec), start=1):
        try:
            if isinstance(image, ImageError):
                raise image
            truth = class_mask(sample, image.shape[:2], classes=len(classes))
        except ImageError as error:
            skipped.append(Skipped(sample.path, error.reason, str(error)))
        else:
            outputs = decider.run(image[None])
            mask, confidence = outputs["mask"][0], outputs["confidence"][0]
            paths.append(str(sample.path))
            found.append(confusion(truth, mask, classes=len(classes)))
            confidences.append(float(confidence[mask > 0].max(initial=0)))
        if progress:
            progress(done, len(masked))
    if not paths:
        raise DataError("none of the images to evaluate on can be read and has a mask")
    outcome = SegmentationOutcome(tuple(classes), tuple(paths), np.stack(found), np.array(confidences))
    return Evaluated(outcome, tuple(skipped))
