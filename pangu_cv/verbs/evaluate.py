"""``pangu-cv evaluate``: any checkpoint or bundle on any dataset."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from pangu_cv.data.config import DataConfig, dataset_title
from pangu_cv.data.sample import Dataset
from pangu_cv.data.shown import classes_shown
from pangu_cv.evaluate import (
    Decider,
    Evaluated,
    Loaders,
    TorchDecider,
    evaluate_anomaly,
    evaluate_classify,
    evaluate_detect,
    evaluate_multilabel,
    evaluate_segment,
    test_samples,
)
from pangu_cv.features import Progress, Skipped
from pangu_cv.finetune.classify import add_skipped
from pangu_cv.progress import bar
from pangu_cv.report.anomaly import anomaly_report
from pangu_cv.report.classification import classification_report
from pangu_cv.report.detection import detection_report
from pangu_cv.report.multilabel import multilabel_report
from pangu_cv.report.page import Page
from pangu_cv.report.segmentation import segmentation_report
from pangu_cv.runs import Run
from pangu_cv.tasks.anomaly import AnomalyModel
from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.saved import load_model
from pangu_cv.verbs.unknown import unknown_lines
from pangu_runtime.decode import DecodeSpec
from pangu_runtime.predictor import Predictor

_SHOWN = (
    "balanced_accuracy",
    "accuracy",
    "f1",
    "mean_ap",
    "chance_ap",
    "micro_f1",
    "macro_f1",
    "exact_match",
    "mean_iou",
    "ap50",
    "ap",
    "image_auroc",
    "pixel_auroc",
    "false_alarm_rate",
    "recall",
    "precision",
)


@dataclass(frozen=True)
class _Opened:
    """A model or bundle: what decides, how it decodes, its task, classes, and the rate its threshold keeps."""

    decider: Decider
    spec: DecodeSpec
    task: str
    classes: tuple[str, ...]
    false_alarm_rate: float | None


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
    opened = _open(model)
    dataset = DataConfig(path=data, root=root).read()
    page = Page(f"{model.name} on {dataset_title(data)}", f"{len(test_samples(dataset))} images")
    with bar("evaluating") as progress:
        summary, skipped = _measure(opened, dataset, page, progress)
    run = Run.start(out, name="evaluate")
    metrics = {"model": str(model), "data": str(data), **summary, "skipped": [str(s.path) for s in skipped]}
    run.write_metrics(metrics)
    add_skipped(page, tuple(skipped))
    page.write(run.report)
    if as_json:
        print(json.dumps(metrics))
        return
    for key in _SHOWN:
        if isinstance(summary.get(key), float):
            print(f"{key.replace('_', ' '):18} {summary[key]:.4f}")
    for line in unknown_lines(summary.get("unknown")):
        print(line)
    print(f"\nmetrics {run.folder / 'metrics.json'}\nreport  {run.report}")


def _measure(
    opened: _Opened, dataset: Dataset, page: Page, progress: Progress
) -> tuple[dict[str, Any], tuple[Skipped, ...]]:
    """The figures of any task, and its part of the page."""
    decider, spec, classes = opened.decider, opened.spec, opened.classes
    samples = test_samples(dataset)
    loaders = Loaders(decider, spec, samples)
    result: Evaluated[Any]
    match opened.task:
        case "classify":
            result = evaluate_classify(
                decider,
                samples,
                classes=classes,
                decode_spec=spec,
                unknown_rate=opened.false_alarm_rate,
                progress=progress,
            )
            classification_report(page, result.outcome, load_image=loaders.image)
        case "multilabel":
            shown = classes_shown(dataset)
            part = {s: shown[s] for s in (dataset.split("test") or dataset.split("val") or shown) if s in shown}
            result = evaluate_multilabel(decider, part, classes=classes, decode_spec=spec, progress=progress)
            multilabel_report(page, result.outcome, load_image=loaders.image)
        case "segment":
            result = evaluate_segment(decider, samples, classes=classes, decode_spec=spec, progress=progress)
            segmentation_report(page, result.outcome, load_masks=lambda path: loaders.masks(path, len(classes)))
        case "detect":
            result = evaluate_detect(decider, samples, classes=classes, decode_spec=spec, progress=progress)
            detection_report(page, result.outcome, load_image=loaders.image)
        case _:
            rate = opened.false_alarm_rate or 0.0
            result = evaluate_anomaly(decider, samples, asked_rate=rate, decode_spec=spec, progress=progress)
            anomaly_report(page, result.outcome, load_image=loaders.image, load_map=loaders.map, load_mask=loaders.mask)
    return result.outcome.summary(), result.skipped


def _open(model: Path) -> _Opened:
    if (model / "bundle.json").is_file():
        predictor = Predictor(model)
        bundle = predictor.bundle
        rate = None if bundle.threshold is None else bundle.threshold.false_alarm_rate
        return _Opened(predictor, bundle.decode, bundle.task, bundle.classes, rate)
    saved = load_model(model / "model" if (model / "model" / "model.json").is_file() else model)
    config = saved.model.config
    rate = config.false_alarm_rate if config.kind == "anomaly" else None
    if isinstance(saved.model, ClassifyModel):
        rate = saved.model.certified_rate
    classes = () if isinstance(saved.model, AnomalyModel) else saved.model.classes
    return _Opened(TorchDecider(saved.model), saved.provenance.decode, config.kind, classes, rate)
