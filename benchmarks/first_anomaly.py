"""One anomaly detector with one bank cap: how well it ranks and finds, what its threshold costs, its size and speed."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import subjects
from benchmarks.latency import Engine, interleaved, spread
from benchmarks.machine import peak_memory_mb
from pangu_cv.data.sample import Sample
from pangu_cv.deploy import export
from pangu_cv.evaluate import TorchDecider, evaluate_anomaly
from pangu_cv.finetune.recipe import FinetuneRecipe
from pangu_cv.metrics import AnomalyOutcome, proportion_interval
from pangu_cv.tasks.anomaly import NORMAL, AnomalyModel
from pangu_cv.tasks.conformal import conformal_threshold
from pangu_cv.tasks.saved import SavedModel, parent_of, save_model
from pangu_runtime.decode import decode
from pangu_runtime.predictor import Predictor

ASKED_RATES = (0.01, 0.02, 0.05, 0.10, 0.20)
_LATENCY_IMAGES = 40
_CERTIFY_IMAGES = 4  # first_parity certifies on all; here the bundle is only timed


def measure(*, data: str, is_quick: bool, name: str, max_mb: float | None) -> dict[str, Any]:
    """Figures of the recipe on one set, all its normals learned, with the bank capped at ``max_mb`` (None: not)."""
    recipe = subjects.anomaly_recipe(Path(data), name)
    split = subjects.anomaly_split(recipe, normals=None, is_quick=is_quick)
    model = subjects.build_detector(subjects.anomaly_task(recipe), max_mb=max_mb, normals=len(split.normals))
    memory = {"before_fit": peak_memory_mb()}
    fitted = subjects.fit_detector(model, split, recipe)
    memory["after_fit"] = peak_memory_mb()
    bank = fitted.learned.normality.bank
    assert max_mb is not None or bank.radius == 0, "a bank with room for every patch drops none but doubles"
    outcome = evaluated(model, split.test, recipe)
    normality = fitted.learned.normality
    left_out = [score / normality.unit for score in normality.left_out_scores().values()]
    saved = SavedModel(model, subjects.provenance(recipe), parent_of(model), normality)
    return {
        "set": name,
        "max_mb": max_mb,
        "normals": len(split.normals),
        "test_images": len(split.test),
        "bank_vectors": bank.size,
        "bank_mb": bank.nbytes / 1e6,
        "fit_seconds": fitted.seconds,
        "peak_memory_mb": memory,
        "summary": outcome.summary(),
        "untouched": auroc_of(outcome, subjects.untouched(Path(data), name, split.test)),
        "false_alarms": [observed_rate(outcome, left_out, rate=rate) for rate in ASKED_RATES],
        "latency": _latency(saved, split.test),
        "threads": torch.get_num_threads(),
    }


def evaluated(model: AnomalyModel, test: Sequence[Sample], recipe: FinetuneRecipe) -> AnomalyOutcome:
    """The trained module's decisions on test images."""
    decider = TorchDecider(model)
    rate, spec = model.config.false_alarm_rate, recipe.data.decode_spec
    return evaluate_anomaly(decider, test, asked_rate=rate, decode_spec=spec).outcome


def auroc_of(outcome: AnomalyOutcome, part: Sequence[Sample]) -> dict[str, Any] | None:
    """Image AUROC on a part of the test images; None where it is empty."""
    names = {str(sample.path) for sample in part}
    rows = np.flatnonzero([path in names for path in outcome.paths])
    if not len(rows):
        return None
    defects = outcome.is_defect_N[rows]
    scores = outcome.scores_N[rows]
    return {"images": len(rows), "normal": int((~defects).sum()), "image_auroc": image_auroc(scores, defects)}


def image_auroc(scores_N: Any, is_defect_N: Any) -> float | None:
    """Chance that a defective image scores above a normal one; None where one kind is lacking."""
    from sklearn.metrics import roc_auc_score

    defects = np.asarray(is_defect_N, bool)
    return float(roc_auc_score(defects, scores_N)) if defects.any() and not defects.all() else None


def observed_rate(outcome: AnomalyOutcome, left_out: Sequence[float], *, rate: float) -> dict[str, Any]:
    """False alarms on the normal test images with the threshold that the learned images give for ``rate``."""
    threshold = conformal_threshold(left_out, rate=rate)
    normal = outcome.scores_N[[kind == NORMAL for kind in outcome.defect_N]]
    interval = proportion_interval(int((normal > threshold.value).sum()), len(normal))
    return {
        "asked": rate,
        "certified": threshold.certified_rate,
        "threshold": threshold.value,
        "observed": interval.as_json() if interval else None,
    }


def _latency(saved: SavedModel, test: Sequence[Sample]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        save_model(saved, Path(folder) / "model")
        paths = [s.path for s in spread(test, _LATENCY_IMAGES)]
        bundle = export(Path(folder) / "model", Path(folder) / "bundle", spread(paths, _CERTIFY_IMAGES)).bundle
        images = [decode(path, spec=saved.provenance.decode) for path in paths]
        return interleaved(engines(saved, bundle), images, rounds=2)


def engines(saved: SavedModel, bundle: Path) -> dict[str, Engine]:
    """The trained module and its bundle with as many threads, each from one decoded image to its decision."""
    torch_side = TorchDecider(saved.model)
    predictor = Predictor(bundle, threads=torch.get_num_threads())
    return {"torch": lambda image: torch_side.run(image[None]), "onnx": lambda image: predictor.run(image[None])}
