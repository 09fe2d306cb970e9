"""A classifier on a dataset."""

from collections.abc import Sequence

import numpy as np

from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError, ImageError
from pangu_cv.evaluate.decider import Decider, Evaluated, read_images
from pangu_cv.features import Progress, Skipped
from pangu_cv.metrics import ClassificationOutcome
from pangu_runtime.decode import DecodeSpec


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
    for done, (sample, image) in enumerate(read_images(samples, decode_spec), start=1):
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
