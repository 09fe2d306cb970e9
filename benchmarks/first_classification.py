"""Few-shot classification on one table: our head beside baselines on the same images, its calibration, its cost."""

import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import subjects
from benchmarks.baselines import balanced_accuracy, prototypes, raw_pixels, ridge
from pangu_cv.data.sample import Dataset
from pangu_cv.features import Extraction, FeatureStore, extract
from pangu_cv.finetune.classify import Draw, DrawResult, fit_draw
from pangu_cv.finetune.recipe import FinetuneRecipe
from pangu_cv.metrics import ClassificationOutcome
from pangu_cv.tasks.classify import ClassifyModel

Numbers = NDArray[np.float32]


def measure(
    *, data: str, is_quick: bool, table: str, backbone: str | None, shots: int, draws: int, with_cost: bool
) -> dict[str, Any]:
    """Figures of ``draws`` draws of ``shots`` labelled images per class, one entry per draw."""
    recipe = subjects.classify_recipe(Path(data), table, backbone=backbone)
    seeds = range(2 if is_quick else draws)
    dataset, chosen = subjects.classify_draws(recipe, shots=shots, seeds=seeds, is_quick=is_quick)
    model = subjects.classify_task(recipe).build(tuple(sorted({str(s.label) for s in chosen[0].support})))
    _warm_up(model, dataset)
    run = _complete_run(model, chosen, recipe)
    per_draw = _per_draw(model, chosen, run, recipe)
    return {
        "table": table,
        "backbone": model.config.backbone.name,
        "classes": len(model.classes),
        "images": len(dataset),
        "test_images": len(chosen[0].test),
        "shots": shots,
        "seeds": list(seeds),
        "per_draw": per_draw,
        "cost": _cost(model, dataset, run, recipe) if with_cost else None,
    }


def _warm_up(model: ClassifyModel, dataset: Dataset) -> None:
    """Files into the system's cache and kernels into the process, so that the first timing is not the odd one out."""
    for sample in dataset:
        sample.path.read_bytes()
    side = model.config.preprocess.image_px
    with torch.inference_mode():
        for _ in range(3):
            model.embed(torch.zeros(32, 3, side, side), "identity")


class _Run:
    """A complete run from a cold store: both extractions, every fitted draw, and the seconds of it all."""

    def __init__(self, seen: Extraction, test: Extraction, results: list[DrawResult], seconds: float) -> None:
        self.seen, self.test, self.results, self.seconds = seen, test, results, seconds


def _complete_run(model: ClassifyModel, draws: Sequence[Draw], recipe: FinetuneRecipe) -> _Run:
    spec, config = recipe.data.decode_spec, model.config
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        store = FeatureStore(Path(folder), model.fingerprint)
        support = sorted({s.path for d in draws for s in d.support})
        tested = sorted({s.path for d in draws for s in d.test})
        seen = extract(support, model, views=config.fit_views, store=store, decode_spec=spec)
        test = extract(tested, model, views=config.decision_views, store=store, decode_spec=spec)
        results = [fit_draw(model, draw, seen, test) for draw in draws]
        return _Run(seen, test, results, time.perf_counter() - start)


def _cost(model: ClassifyModel, dataset: Dataset, run: _Run, recipe: FinetuneRecipe) -> dict[str, Any]:
    paths = [sample.path for sample in dataset]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        store = FeatureStore(Path(folder), model.fingerprint)
        once = extract(paths, model, views=("identity",), store=store, decode_spec=recipe.data.decode_spec)
        seconds = time.perf_counter() - start
    return {
        "pass_seconds": seconds,
        "pass_embedded": once.embedded,
        "run_seconds": run.seconds,
        "run_embedded": run.seen.embedded + run.test.embedded,
    }


def _per_draw(model: ClassifyModel, draws: Sequence[Draw], run: _Run, recipe: FinetuneRecipe) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = defaultdict(list)
    plain = model.head.groups[0]  # the pooled vector stands first
    spec = recipe.data.decode_spec
    pixels = {path: raw_pixels(path, spec) for path in (*run.seen.index, *run.test.index)}
    for draw, result in zip(draws, run.results, strict=True):
        labels = np.array([model.classes.index(str(s.label)) for s in draw.support])
        truth = result.outcome.truth_N.astype(np.int64)
        figures["ours"].append(result.outcome.balanced_accuracy)
        support, query = _identity(model, draw, run)
        small = [np.stack([pixels[s.path] for s in part]) for part in (draw.support, draw.test)]
        for name, predicted in (
            ("prototypes_same_features", prototypes(support, labels, query)),
            ("prototypes_plain", prototypes(support[:, :plain], labels, query[:, :plain])),
            ("ridge_plain", ridge(support[:, :plain], labels, query[:, :plain])),
            ("prototypes_pixels", prototypes(small[0], labels, small[1])),
        ):
            figures[name].append(balanced_accuracy(predicted, truth))
        for name, value in _calibration(model, draw, run, result).items():
            figures[name].append(value)
    return dict(figures)


def _identity(model: ClassifyModel, draw: Draw, run: _Run) -> tuple[Numbers, Numbers]:
    """Features of the identity view of labelled and of test images: float32[S,D], float32[N,D]."""
    seen_view = model.config.fit_views.index("identity")
    test_view = model.config.decision_views.index("identity")
    support = run.seen.features_NVD[[run.seen.index[s.path] for s in draw.support], seen_view]
    return support, run.test.features_NVD[[run.test.index[s.path] for s in draw.test], test_view]


def _calibration(model: ClassifyModel, draw: Draw, run: _Run, result: DrawResult) -> dict[str, float]:
    """Calibration error and log-likelihood with the fitted temperature, and with a plain softmax of the outputs."""
    fitted, again = result.outcome, fit_draw(model, draw, run.seen, run.test).outcome
    assert np.array_equal(again.scores_NC, fitted.scores_NC)
    temperature = float(model.head.temperature)
    model.head.temperature.fill_(1)
    rows = [run.test.index[s.path] for s in draw.test]
    with torch.inference_mode():
        scores, _ = model.decide_from_features(torch.from_numpy(run.test.features_NVD[rows]))
    plain = ClassificationOutcome(fitted.classes, fitted.paths, scores.numpy(), fitted.truth_N)
    return {
        "temperature": temperature,
        "ece_fitted": fitted.expected_calibration_error(),
        "ece_plain_softmax": plain.expected_calibration_error(),
        "nll_fitted": fitted.negative_log_likelihood,
        "nll_plain_softmax": plain.negative_log_likelihood,
    }
