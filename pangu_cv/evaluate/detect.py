"""A detector on a dataset."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError
from pangu_cv.evaluate.decider import Decider, Evaluated, Outputs, decide_all
from pangu_cv.features import Progress
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

    def keep(_: Sample, image: NDArray[np.uint8], out: Outputs) -> tuple[tuple[int, int], Found, float]:
        return (image.shape[1], image.shape[0]), found_boxes(out), float(out["threshold_applied"][0])

    decided = decide_all(decider, boxed, keep, spec=decode_spec, needs=" and has boxes", progress=progress)
    sizes, found, thresholds = zip(*decided.rows, strict=True)
    truth = tuple(true_boxes(sample, classes) for sample in decided.samples)
    outcome = DetectionOutcome(tuple(classes), decided.paths, sizes, found, truth, thresholds[0], decided.groups)
    return Evaluated(outcome, decided.skipped)


def found_boxes(outputs: Outputs) -> Found:
    """The graph's boxes for one image, without those that were suppressed."""
    alive = outputs["scores"][0] > 0
    return Found(outputs["boxes_xyxy"][0][alive], outputs["labels"][0][alive], outputs["scores"][0][alive])


def true_boxes(sample: Sample, classes: Sequence[str]) -> Found:
    """The sample's boxes with class numbers."""
    boxes = sample.boxes or ()
    corners = np.array([box.xyxy for box in boxes], np.float64).reshape(-1, 4)
    return Found(corners, np.array([list(classes).index(b.label) for b in boxes], np.int64), np.ones(len(boxes)))
