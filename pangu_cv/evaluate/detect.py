"""A detector on a dataset."""

from collections.abc import Sequence

import numpy as np

from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError, ImageError
from pangu_cv.evaluate.decider import Decider, Evaluated, Outputs, read_images
from pangu_cv.features import Progress, Skipped
from pangu_cv.metrics.detection import DetectionOutcome, Found
from pangu_runtime.decode import DecodeSpec


def evaluate_detect(
    decider: Decider,
    samples: Sequence[Sample],
    *,
    classes: Sequence[str],
    decode_spec: DecodeSpec,
    progress: Progress | None = None,
) -> Evaluated[DetectionOutcome]:
    """Decide every image whose boxes are known (none at all is known too) and compare box by box.

    Raises DataError for a class the model does not know.
    """
    boxed = [sample for sample in samples if sample.boxes is not None]
    unknown = sorted({box.label for s in boxed for box in s.boxes or ()} - set(classes))
    if unknown:
        raise DataError(f"the model does not know the class(es) {', '.join(unknown)}; it knows: {', '.join(classes)}")
    kept, sizes, found, skipped, threshold = [], [], [], [], 0.0
    for done, (sample, image) in enumerate(read_images(boxed, decode_spec), start=1):
        if isinstance(image, ImageError):
            skipped.append(Skipped(sample.path, image.reason, str(image)))
        else:
            outputs = decider.run(image[None])
            threshold = float(outputs["threshold_applied"][0])
            kept.append(sample)
            sizes.append((image.shape[1], image.shape[0]))
            found.append(found_boxes(outputs))
        if progress:
            progress(done, len(boxed))
    if not kept:
        raise DataError("none of the images to evaluate on can be read and has boxes")
    truth = tuple(true_boxes(sample, classes) for sample in kept)
    paths = tuple(str(sample.path) for sample in kept)
    outcome = DetectionOutcome(tuple(classes), paths, tuple(sizes), tuple(found), truth, threshold)
    return Evaluated(outcome, tuple(skipped))


def found_boxes(outputs: Outputs) -> Found:
    """The graph's boxes for one image, without those that were suppressed."""
    alive = outputs["scores"][0] > 0
    return Found(outputs["boxes_xyxy"][0][alive], outputs["labels"][0][alive], outputs["scores"][0][alive])


def true_boxes(sample: Sample, classes: Sequence[str]) -> Found:
    """The sample's boxes with class numbers."""
    boxes = sample.boxes or ()
    corners = np.array([box.xyxy for box in boxes], np.float64).reshape(-1, 4)
    return Found(corners, np.array([list(classes).index(b.label) for b in boxes], np.int64), np.ones(len(boxes)))
