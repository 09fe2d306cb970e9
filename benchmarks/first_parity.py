"""One model exported and certified on all its test images: the same decisions with and without torch, and how fast."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import subjects
from benchmarks.first_anomaly import engines
from benchmarks.latency import interleaved, spread
from pangu_cv.deploy import export
from pangu_cv.errors import CertificateError
from pangu_cv.features import FeatureStore, extract
from pangu_cv.finetune.classify import fit_draw
from pangu_cv.tasks.saved import SavedModel, load_model, parent_of, save_model
from pangu_runtime.decode import decode
from pangu_runtime.predictor import AnomalyPrediction, Prediction, Predictor

_LATENCY_IMAGES = 48
_NO_TORCH = (
    "import sys; sys.modules['torch'] = None; from pangu_cv.cli import main; "
    "main(['predict', sys.argv[1], sys.argv[2], '--json'])"
)


def measure(*, data: str, is_quick: bool, name: str) -> dict[str, Any]:
    """Certificate, torch-free answers and latency of the recipe's model on a table or an anomaly set, seed 0."""
    fit = _fit_detector if name in subjects.ANOMALY_SETS else _fit_classifier
    saved, paths = fit(Path(data), name, is_quick=is_quick)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        save_model(saved, folder / "model")
        result: dict[str, Any] = {"model": name, "task": saved.model.config.kind, "images": len(paths)}
        try:
            export(folder / "model", folder / "bundle", paths)
        except CertificateError:
            record = json.loads((folder / "parity-failed.json").read_text(encoding="utf-8"))
            return result | {"holds": False, "certificate": record["precisions"]["fp32"]["worst"]}
        record = json.loads((folder / "bundle" / "parity.json").read_text(encoding="utf-8"))
        assert len(record["images"]) == len(paths), "every test image is readable"
        images = [decode(path, spec=saved.provenance.decode) for path in spread(paths, _LATENCY_IMAGES)]
        return result | {
            "holds": True,
            "certificate": record["precisions"]["fp32"]["worst"],
            "without_torch": _without_torch(folder, paths, [image["answer"] for image in record["images"]]),
            "latency": interleaved(engines(load_model(folder / "model"), folder / "bundle"), images, rounds=3),
            "threads": torch.get_num_threads(),
            "model_mb": (folder / "bundle" / "model.onnx").stat().st_size / 1e6,
        }


def _fit_classifier(data: Path, table: str, *, is_quick: bool) -> tuple[SavedModel, list[Path]]:
    recipe = subjects.classify_recipe(data, table)
    shots = recipe.few_shot.shots or 5
    _, (draw,) = subjects.classify_draws(recipe, shots=shots, seeds=range(1), is_quick=is_quick)
    model = subjects.classify_task(recipe).build(tuple(sorted({str(s.label) for s in draw.support})))
    store = FeatureStore(None, model.fingerprint)
    spec, support = recipe.data.decode_spec, [s.path for s in draw.support]
    seen = extract(support, model, views=model.config.fit_views, store=store, decode_spec=spec)
    one = extract(support[:1], model, views=model.config.decision_views, store=store, decode_spec=spec)
    fit_draw(model, type(draw)(draw.seed, draw.support, draw.support[:1]), seen, one)
    return SavedModel(model, subjects.provenance(recipe), parent_of(model)), [s.path for s in draw.test]


def _fit_detector(data: Path, name: str, *, is_quick: bool) -> tuple[SavedModel, list[Path]]:
    recipe = subjects.anomaly_recipe(data, name)
    split = subjects.anomaly_split(recipe, normals=None, is_quick=is_quick)
    task = subjects.anomaly_task(recipe)
    model = subjects.build_detector(task, max_mb=task.bank.max_mb, normals=len(split.normals))
    normality = subjects.fit_detector(model, split, recipe).learned.normality
    saved = SavedModel(model, subjects.provenance(recipe), parent_of(model), normality)
    return saved, [s.path for s in split.test]


def _without_torch(folder: Path, paths: Sequence[Path], answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """``pangu-cv predict`` where torch cannot be imported, against this process's Predictor and torch's own answers."""
    found = _predicted(folder, paths)
    here = [p for p in Predictor(folder / "bundle").predict(paths) if not isinstance(p, Exception)]
    assert len(found) == len(here) == len(paths)
    decisions = [_decision(p) for p in here]
    classes = Predictor(folder / "bundle").bundle.classes
    torch_decisions = [_torch_decision(answer, classes) for answer in answers]
    seen = [line.get("label", line.get("is_anomalous")) for line in found]
    return {
        "images": len(found),
        "decisions_unlike_predictor": sum(a != b for a, b in zip(seen, decisions, strict=True)),
        "decisions_unlike_torch": sum(a != b for a, b in zip(seen, torch_decisions, strict=True)),
        "score_difference_to_predictor": _largest(found, [_scores(p) for p in here]),
        "score_difference_to_torch": _largest(found, [np.ravel(_torch_scores(a)) for a in answers]),
    }


def _predicted(folder: Path, paths: Sequence[Path]) -> list[dict[str, Any]]:
    images = folder / "images"
    images.mkdir()
    for number, path in enumerate(paths):
        (images / f"{number:05d}{path.suffix}").symlink_to(path.resolve())
    command = [sys.executable, "-c", _NO_TORCH, str(folder / "bundle"), str(images)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    return [json.loads(line) for line in done.stdout.splitlines()]


def _decision(prediction: Prediction) -> str | bool:
    return prediction.is_anomalous if isinstance(prediction, AnomalyPrediction) else prediction.label


def _torch_decision(answer: dict[str, Any], classes: Sequence[str]) -> str | bool:
    return bool(answer["is_anomalous"][0]) if "is_anomalous" in answer else classes[int(answer["label"][0])]


def _torch_scores(answer: dict[str, Any]) -> list[Any]:
    return list(answer["scores"] if "scores" in answer else answer["score"])


def _scores(prediction: Prediction) -> Any:
    return np.array([prediction.score]) if isinstance(prediction, AnomalyPrediction) else prediction.scores_C


def _largest(found: Sequence[dict[str, Any]], expected: Sequence[Any]) -> float:
    """Largest difference to what the verb printed, which is rounded to 6 digits."""
    printed = [np.ravel(line.get("scores", line["score"])) for line in found]
    return max(float(np.abs(a - b).max()) for a, b in zip(printed, expected, strict=True))
