"""The frozen set under one yardstick in every round: all classes count, those a model does not know as never found.

Shapes: N images, C classes of the loop, K classes of the model.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.config import DataConfig
from pangu_cv.evaluate import TorchDecider, test_samples
from pangu_cv.evaluate.decider import decide_all
from pangu_cv.metrics import ClassificationOutcome
from pangu_cv.models.checkpoint_folder import folder_of
from pangu_cv.progress import bar
from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.saved import load_model
from pangu_cv.workflows.loop.steps import Figures, Loop


def measured(loop: Loop, model: Path | None) -> Figures:
    """Figures with intervals, and the scores they come from; nothing where there is no model yet."""
    if model is None:
        return {"summary": None}
    saved = load_model(folder_of(model))
    assert isinstance(saved.model, ClassifyModel)
    samples = test_samples(DataConfig(path=loop.frozen).read())
    spec = saved.provenance.decode
    with bar("measuring on the frozen set") as progress:
        decided = decide_all(TorchDecider(saved.model), samples, _scores, spec=spec, progress=progress)
    classes = loop.recipe.classes
    scores_NC = np.zeros((len(decided.rows), len(classes)))
    scores_NC[:, [classes.index(name) for name in saved.model.classes]] = np.stack(decided.rows)
    found = ClassificationOutcome(
        classes,
        tuple(str(sample.path) for sample in decided.samples),
        scores_NC,
        np.array([classes.index(str(sample.label)) for sample in decided.samples]),
        groups=decided.groups,
    )
    return {
        "summary": found.summary(),
        "paths": list(found.paths),
        "groups": list(found.groups),
        "scores": np.round(scores_NC, 6).tolist(),
        "truth": found.truth_N.tolist(),
        "knows": list(saved.model.classes),
    }


def outcome_of(figures: Figures) -> ClassificationOutcome | None:
    """What was measured, as it was."""
    if figures["summary"] is None:
        return None
    classes, paths = tuple(figures["summary"]["classes"]), tuple(figures["paths"])
    scores_NC, truth_N = np.array(figures["scores"]), np.array(figures["truth"])
    return ClassificationOutcome(classes, paths, scores_NC, truth_N, groups=tuple(figures.get("groups", ())))


def _scores(_: Any, __: Any, out: Any) -> NDArray[np.float64]:
    return np.asarray(out["scores"][0], np.float64)
