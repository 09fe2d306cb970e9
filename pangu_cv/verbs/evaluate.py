"""``pangu-cv evaluate``: any checkpoint or bundle on any dataset."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pangu_cv.data.config import DataConfig, dataset_title
from pangu_cv.evaluate import Decider, Loaders, TorchDecider, evaluate_anomaly, evaluate_classify, test_samples
from pangu_cv.progress import bar
from pangu_cv.report.anomaly import anomaly_report
from pangu_cv.report.classification import classification_report
from pangu_cv.report.page import Page
from pangu_cv.runs import Run
from pangu_cv.tasks.anomaly import AnomalyModel
from pangu_cv.tasks.saved import load_model
from pangu_runtime.decode import DecodeSpec
from pangu_runtime.predictor import Predictor


def evaluate(
    model: Path,
    data: Path,
    *,
    root: Path | None = None,
    out: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Measure a model or a bundle on a dataset; write metrics and a report.

    Parameters
    ----------
    model
        A bundle, a run folder of 'pangu-cv finetune', or its model folder.
    data
        A dataset: its test split is measured, else val, else all labelled images.
    root
        Folder that the files of a CSV table are relative to.
    out
        The run folder; default: a new one under runs/.
    as_json
        Print the figures as JSON.
    """
    decider, spec, classes, rate = _open(model)
    samples = test_samples(DataConfig(path=data, root=root).read())
    loaders = Loaders(decider, spec, samples)
    page = Page(f"{model.name} on {dataset_title(data)}", f"{len(samples)} images")
    with bar("evaluating") as progress:
        if rate is None:
            result = evaluate_classify(decider, samples, classes=classes, decode_spec=spec, progress=progress)
            classification_report(page, result.outcome, load_image=loaders.image)
            summary, skipped = result.outcome.summary(), result.skipped
        else:
            found = evaluate_anomaly(decider, samples, asked_rate=rate, decode_spec=spec, progress=progress)
            anomaly_report(page, found.outcome, load_image=loaders.image, load_map=loaders.map, load_mask=loaders.mask)
            summary, skipped = found.outcome.summary(), found.skipped
    run = Run.start(out, name="evaluate")
    metrics = {"model": str(model), "data": str(data), **summary, "skipped": [str(s.path) for s in skipped]}
    run.write_metrics(metrics)
    page.write(run.report)
    if as_json:
        print(json.dumps(metrics))
        return
    keys = ("balanced_accuracy", "accuracy", "image_auroc", "pixel_auroc", "false_alarm_rate", "recall")
    for key in keys:
        if summary.get(key) is not None:
            print(f"{key.replace('_', ' '):18} {summary[key]:.4f}")
    print(f"\nmetrics {run.folder / 'metrics.json'}\nreport  {run.report}")


def _open(model: Path) -> tuple[Decider, DecodeSpec, tuple[str, ...], float | None]:
    """The decider, how it decodes, its classes, and the false-alarm rate of an anomaly model (None for classify)."""
    if (model / "bundle.json").is_file():
        predictor = Predictor(model)
        threshold = predictor.bundle.threshold
        rate = None if threshold is None else threshold.false_alarm_rate
        return predictor, predictor.bundle.decode, predictor.bundle.classes, rate
    saved = load_model(model / "model" if (model / "model" / "model.json").is_file() else model)
    spec = saved.provenance.decode
    if isinstance(saved.model, AnomalyModel):
        return TorchDecider(saved.model), spec, (), saved.model.config.false_alarm_rate
    return TorchDecider(saved.model), spec, saved.model.classes, None
