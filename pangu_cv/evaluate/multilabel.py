"""A tagger on a dataset."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError, ImageError
from pangu_cv.evaluate.decider import Decider, Evaluated, read_images
from pangu_cv.features import Progress, Skipped
from pangu_cv.metrics.multilabel import MultilabelOutcome
from pangu_runtime.decode import DecodeSpec


def evaluate_multilabel(
    decider: Decider,
    shown: Mapping[Sample, frozenset[str]],
    *,
    classes: Sequence[str],
    decode_spec: DecodeSpec,
    progress: Progress | None = None,
) -> Evaluated[MultilabelOutcome]:
    """Decide every image and compare with the classes it shows.

    Raises DataError for a class the model does not know.
    """
    require_known(shown, classes)
    kept, skipped, scores, present, threshold = [], [], [], [], 0.0
    for done, (sample, image) in enumerate(read_images(tuple(shown), decode_spec), start=1):
        if isinstance(image, ImageError):
            skipped.append(Skipped(sample.path, image.reason, str(image)))
        else:
            outputs = decider.run(image[None])
            kept.append(sample)
            scores.append(outputs["scores"][0])
            present.append(outputs["is_present"][0])
            threshold = float(outputs["threshold_applied"][0])
        if progress:
            progress(done, len(shown))
    if not kept:
        raise DataError("none of the images to evaluate on can be read and has labels")
    outcome = MultilabelOutcome(
        tuple(classes),
        tuple(str(s.path) for s in kept),
        np.stack(scores),
        np.stack(present),
        truth_of([shown[s] for s in kept], classes),
        threshold,
    )
    return Evaluated(outcome, tuple(skipped))


def require_known(shown: Mapping[Sample, frozenset[str]], classes: Sequence[str]) -> None:
    """Raises DataError naming the classes shown that the model does not know."""
    strange = sorted(frozenset().union(*shown.values()) - set(classes))
    if strange:
        raise DataError(f"the model does not know the class(es) {', '.join(strange)}; it knows: {', '.join(classes)}")


def truth_of(shown: Sequence[frozenset[str]], classes: Sequence[str]) -> NDArray[np.bool_]:
    """bool[N,C] of the classes that each image shows."""
    return np.array([[name in one for name in classes] for one in shown], bool).reshape(len(shown), len(classes))
