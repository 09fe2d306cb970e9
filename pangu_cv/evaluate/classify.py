"""A classifier on a dataset."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError
from pangu_cv.evaluate.decider import Decider, Evaluated, Outputs, decide_all
from pangu_cv.features import Progress
from pangu_cv.metrics import ClassificationOutcome
from pangu_cv.metrics.unknown import UNKNOWN, UnknownOutcome
from pangu_runtime.decode import DecodeSpec


def evaluate_classify(
    decider: Decider,
    samples: Sequence[Sample],
    *,
    classes: Sequence[str],
    decode_spec: DecodeSpec,
    unknown_rate: float | None = None,
    progress: Progress | None = None,
) -> Evaluated[ClassificationOutcome]:
    """Decide every image and compare with its label; with ``unknown_rate`` other classes should be answered unknown.

    Raises DataError for a label the model does not know where it never answers unknown.
    """
    samples = [sample for sample in samples if sample.label is not None]  # what it shows is not known
    if not samples:
        raise DataError("none of the images to evaluate on has a label")
    strange = sorted({str(s.label) for s in samples} - set(classes))
    if strange and unknown_rate is None:
        raise DataError(
            f"the model does not know the class(es) {', '.join(strange)}; it knows: {', '.join(classes)}. "
            "With task.unknown_rate it would be measured by how many of them it recognises as unknown"
        )

    def keep(_: Sample, __: Any, out: Outputs) -> tuple[NDArray[np.float32], int, float]:
        return out["scores"][0], int(out["label"][0]), float(out["threshold_applied"][0])

    decided = decide_all(decider, samples, keep, spec=decode_spec, progress=progress)
    scores, answers, thresholds = zip(*decided.rows, strict=True)
    outcome = classification_outcome(
        decided.samples,
        np.stack(scores),
        np.array(answers),
        classes=classes,
        threshold=thresholds[0],
        unknown_rate=unknown_rate,
    )
    return Evaluated(outcome, decided.skipped)


def classification_outcome(
    samples: Sequence[Sample],
    scores_NC: NDArray[Any],
    answer_N: NDArray[Any],
    *,
    classes: Sequence[str],
    threshold: float,
    unknown_rate: float | None,
) -> ClassificationOutcome:
    """The outcome on images of known classes, with what became of all of them where "unknown" is an answer."""
    numbers = {name: at for at, name in enumerate(classes)}
    truth_N = np.array([numbers.get(str(s.label), UNKNOWN) for s in samples], np.int64)
    paths = tuple(str(s.path) for s in samples)
    is_known_N = truth_N != UNKNOWN
    if not is_known_N.any():
        raise DataError(f"no image shows a class the model knows: {', '.join(classes)}")
    unknown = None
    if unknown_rate is not None:
        unknown = UnknownOutcome(paths, scores_NC.max(1), answer_N, truth_N, threshold, unknown_rate)
    known = tuple(path for path, known in zip(paths, is_known_N, strict=True) if known)
    groups = tuple(s.group for s, known in zip(samples, is_known_N, strict=True) if known)
    return ClassificationOutcome(tuple(classes), known, scores_NC[is_known_N], truth_N[is_known_N], unknown, groups)
