"""A tagger on a dataset."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError
from pangu_cv.evaluate.decider import Decider, Evaluated, Outputs, decide_all
from pangu_cv.features import Progress
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

    def keep(_: Sample, __: Any, out: Outputs) -> tuple[NDArray[np.float32], NDArray[np.bool_], float]:
        return out["scores"][0], out["is_present"][0], float(out["threshold_applied"][0])

    decided = decide_all(decider, tuple(shown), keep, spec=decode_spec, needs=" and has labels", progress=progress)
    scores, present, thresholds = zip(*decided.rows, strict=True)
    truth = truth_of([shown[s] for s in decided.samples], classes)
    outcome = MultilabelOutcome(
        tuple(classes), decided.paths, np.stack(scores), np.stack(present), truth, thresholds[0], decided.groups
    )
    return Evaluated(outcome, decided.skipped)


def require_known(shown: Mapping[Sample, frozenset[str]], classes: Sequence[str]) -> None:
    """Raises DataError naming the classes shown that the model does not know."""
    strange = sorted(frozenset().union(*shown.values()) - set(classes))
    if strange:
        raise DataError(f"the model does not know the class(es) {', '.join(strange)}; it knows: {', '.join(classes)}")


def truth_of(shown: Sequence[frozenset[str]], classes: Sequence[str]) -> NDArray[np.bool_]:
    """bool[N,C] of the classes that each image shows."""
    return np.array([[name in one for name in classes] for one in shown], bool).reshape(len(shown), len(classes))
