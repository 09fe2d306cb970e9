"""``pangu-cv evaluate``: any checkpoint or bundle on any dataset."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from pangu_cv.data.config import DataConfig, dataset_title
from pangu_cv.data.readers import Layout
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.data.shown import classes_shown
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.evaluate import (
    Decider,
    Evaluated,
    Loaders,
    TorchDecider,
    as_inspection,
    evaluate_anomaly,
    evaluate_classify,
    evaluate_detect,
    evaluate_multilabel,
    evaluate_segment,
    good_class,
    known_to,
    marks_by_path,
    measured_samples,
    passed_over,
    require_comparable,
    require_same_masks,
    to_measure,
    with_kin,
)
from pangu_cv.features import Skipped
from pangu_cv.metrics.bootstrap import together_told
from pangu_cv.metrics.gate import Gate, gate
from pangu_cv.metrics.inspection import Costs
from pangu_cv.metrics.paired import Comparison, paired
from pangu_cv.models.checkpoint_folder import folder_of
from pangu_cv.progress import bar
from pangu_cv.report.anomaly import anomaly_report
from pangu_cv.report.classification import classification_report
from pangu_cv.report.comparison import comparison_report, verdict
from pangu_cv.report.detection import detection_report
from pangu_cv.report.disagreement import Side, disagreement_pictures
from pangu_cv.report.gate import gate_headline, gate_report
from pangu_cv.report.multilabel import multilabel_report
from pangu_cv.report.page import Page
from pangu_cv.report.segmentation import segmentation_report
from pangu_cv.report.skipped import add_skipped
from pangu_cv.report.text import percent, percent_range
from pangu_cv.runs import Run
from pangu_cv.tasks.anomaly import AnomalyModel
from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.saved import load_model
from pangu_cv.verbs.unknown import unknown_lines
from pangu_runtime.bundle import Precision
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
    "average_precision",
    "pixel_auroc",
    "false_alarm_rate",
    "recall",
    "precision",
)
_OF_OTHERS = ("model", "model.json", "recipe.yaml", "bundle.json")


@dataclass(frozen=True)
class _Opened:
    """A model or bundle: its name, what decides, how it decodes, its task, classes, the rate its threshold keeps; None
    is torch's own precision."""

    name: str
    decider: Decider
    spec: DecodeSpec
    task: str
    classes: tuple[str, ...]
    false_alarm_rate: float | None
    precision: Precision | None = None
    learnt: frozenset[str] = frozenset()
    """Marks of the images it is known to have learnt from; none where that is not known."""


@dataclass(frozen=True)
class _Measured:
    """A model on a dataset: its name, its outcome, the images it could not read, what the reader of its figures must
    know, and what it shows of the images."""

    name: str
    task: str
    classes: tuple[str, ...]
    outcome: Any
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    loaders: Loaders


@dataclass(frozen=True)
class _Rival:
    """Another model on the same images, and what separates the two."""

    measured: _Measured
    comparison: Comparison


def evaluate(
    model: Path,
    data: Path,
    *,
    layout: Layout = "auto",
    root: Path | None = None,
    groups: Path | None = None,
    out: Path | None = None,
    against: Path | None = None,
    precision: Precision | None = None,
    good: str | None = None,
    recall: float = 0.95,
    escape_cost: float | None = None,
    overkill_cost: float | None = None,
    with_learnt: bool = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Measure a model or a bundle on a dataset, alone or against another; write metrics and a report.

    Parameters
    ----------
    model
        A bundle, a run folder of 'pangu-cv finetune', or its model folder.
    data
        A dataset: its test split is measured, else val, else all, of the images labelled for the task. Those that a
        model is known to have learnt from are left out.
    layout
        How to read it, as data.layout of 'pangu-cv finetune'; auto recognises it.
    root
        Folder that the files of a CSV table are relative to.
    groups
        A table ``file,group`` of images that belong together, as data.groups of 'pangu-cv finetune': all of a group are
        left out where one was learnt from, and intervals draw them together.
    out
        The run folder; default: a new one under runs/.
    against
        Another model of the same task and classes, compared on the same images; a bundle in the precision it names.
    precision
        Which of the bundle's precisions is measured: fp32, fp16 or int8; default: the one it names. With the same
        bundle as --against, what a precision costs.
    good
        A classifier's class of good images, for escapes and overkill; default: 'good' where it knows one.
    recall
        Share of the defective images to reject; escapes and overkill are told at the threshold for it.
    escape_cost
        What a defective image that passes costs; with --overkill-cost, the threshold of least cost is told.
    overkill_cost
        What a good image that is rejected costs, in the same unit.
    with_learnt
        Measure images too that a model has learnt from: the figures are then too good.
    as_json
        Print the figures as JSON.
    """
    _require_own(out)
    costs = _costs(recall, escape_cost, overkill_cost)
    name = model.name if precision is None else f"{model.name} {precision}"
    opened = _open(model, precision, name=name)
    models = [opened]
    if against is not None:
        other = _open(against, name=against.name if against.name != name else str(against))
        require_comparable(opened, other)
        models.append(other)
    good = good_class(opened.task, opened.classes, good)
    dataset = DataConfig(path=data, layout=layout, root=root, groups=groups).read()
    samples, notes = _chosen(dataset, models, with_learnt=with_learnt)
    measured, *others = (_measure(one, dataset, samples) for one in models)
    rival = _Rival(others[0], paired(measured.outcome, others[0].outcome)) if others else None
    inspection = as_inspection(measured.outcome, good=good)
    passed = None if inspection is None else gate(inspection, recall=recall, costs=costs)
    metrics = {"model": str(model), "precision": opened.precision, "data": str(data), **measured.outcome.summary()}
    notes += [*measured.notes, *together_told(measured.outcome.groups), *dataset.notes]
    metrics |= {
        "notes": notes,
        "gate": passed.summary() if passed else None,
        "skipped": [str(s.path) for s in measured.skipped],
    }
    if rival:
        metrics["against"] = {"model": str(against), **rival.comparison.summary()}
    page = Page(f"{name} on {dataset_title(data)}", f"{len(measured.outcome.paths)} images")
    for note in notes:
        page.note(note)
    _fill(page, measured, passed, rival)
    run = Run.start(out, name="evaluate")
    run.write_metrics(metrics)
    page.write(run.report)
    if as_json:
        print(json.dumps(metrics))
        return
    print("\n".join([_counted(measured), *_told(metrics, passed), *(f"! {note}" for note in notes)]))
    if rival:
        print(f"\n{verdict(rival.comparison, measured.name, rival.measured.name)}")
    print(f"\nmetrics {run.folder / 'metrics.json'}\nreport  {run.report}")


def _require_own(out: Path | None) -> None:
    """Raise SettingsError where the folder is another command's, whose metrics.json and report.html would be lost."""
    if out is None:
        return
    found = next((name for name in _OF_OTHERS if (out / name).exists()), None)
    if found is not None:
        raise SettingsError(
            f"--out: '{out}' holds '{found}', so another command wrote it, and its metrics.json and report.html would "
            "be replaced; name another folder"
        )


def _costs(recall: float, escape: float | None, overkill: float | None) -> Costs | None:
    if not 0 < recall <= 1:
        raise SettingsError(f"--recall {recall:g}: a share above 0, at most 1")
    if escape is None and overkill is None:
        return None
    if escape is None or overkill is None:
        raise SettingsError("--escape-cost and --overkill-cost go together: only their ratio decides the threshold")
    try:
        return Costs(escape, overkill)
    except ValueError as error:
        raise SettingsError(f"--escape-cost {escape:g} --overkill-cost {overkill:g}: {error}") from None


def _chosen(dataset: Dataset, models: Sequence[_Opened], *, with_learnt: bool) -> tuple[list[Sample], list[str]]:
    """The images to measure all models on, and what of them makes figures too good or is left out.

    Raises DataError where no image is left that no model has learnt from.
    """
    task = models[0].task
    found = measured_samples(dataset, task)
    kin = with_kin(found, dataset)
    marks = marks_by_path(kin) if any(one.learnt for one in models) else {}
    seen = [known_to(found, kin, {path for path, mark in marks.items() if mark in one.learnt}) for one in models]
    notes = []
    for one, own in zip(models, seen, strict=True):
        told = _learnt_told(one, own, found, with_learnt=with_learnt)
        notes += [told if one is models[0] else f"{one.name}: {told}"] if told else []
    left = set() if with_learnt else set[Path]().union(*seen)
    kept = [s for s in found if s.path not in left]
    if found and not kept:
        raise DataError(
            f"{dataset.root}: all {len(found)} images to measure on are ones that a model has learnt from; name "
            "others, or measure these with --with-learnt, which gives figures that are too good"
        )
    return kept, [*notes, *passed_over(dataset, found, task)]


def _learnt_told(one: _Opened, seen: Collection[Path], found: Sequence[Sample], *, with_learnt: bool) -> str | None:
    """What makes a model's figures too good, for certain or perhaps, or was left out so that it does not."""
    if not one.learnt:
        told = (
            "which images the model has learnt from is not known (run folders of 'pangu-cv finetune' say so, those of "
            "earlier versions not always): the figures may be too good"
        )
        if not to_measure(found):
            told = f"the dataset names no test part, so all labelled images are measured; {told}"
        return told
    if not seen:
        return None
    count = f"{len(seen)} of the {len(found)} images are"
    if with_learnt:
        return f"{count} ones the model has learnt from, or of their groups: the figures are too good"
    return f"{count} left out, since the model has learnt from them or their groups; --with-learnt measures them too"


def _measure(opened: _Opened, dataset: Dataset, samples: Sequence[Sample]) -> _Measured:
    """The outcome of any task."""
    decider, spec, classes = opened.decider, opened.spec, opened.classes
    result: Evaluated[Any]
    with bar(f"evaluating {opened.name}") as progress:
        match opened.task:
            case "classify":
                rate = opened.false_alarm_rate
                result = evaluate_classify(
                    decider, samples, classes=classes, decode_spec=spec, unknown_rate=rate, progress=progress
                )
            case "multilabel":
                shown = classes_shown(dataset)
                part = {s: shown[s] for s in samples}
                result = evaluate_multilabel(decider, part, classes=classes, decode_spec=spec, progress=progress)
            case "segment":
                require_same_masks(dataset, classes)
                result = evaluate_segment(decider, samples, classes=classes, decode_spec=spec, progress=progress)
            case "detect":
                result = evaluate_detect(decider, samples, classes=classes, decode_spec=spec, progress=progress)
            case _:
                rate = opened.false_alarm_rate or 0.0
                result = evaluate_anomaly(decider, samples, asked_rate=rate, decode_spec=spec, progress=progress)
    loaders = Loaders(decider, spec, samples)
    return _Measured(opened.name, opened.task, classes, result.outcome, result.skipped, result.notes, loaders)


def _fill(page: Page, measured: _Measured, passed: Gate | None, rival: _Rival | None) -> None:
    """The page from the verdicts down to the pictures."""
    if rival:
        comparison_report(page, rival.comparison, measured.name, rival.measured.name)
    gate_headline(page, passed)
    _report(page, measured)
    gate_report(page, passed)
    if rival:
        sides = (Side(one.name, one.outcome, one.loaders) for one in (measured, rival.measured))
        disagreement_pictures(page, rival.comparison, *sides)
    add_skipped(page, measured.skipped)


def _report(page: Page, measured: _Measured) -> None:
    """The task's part of the page."""
    outcome, show = measured.outcome, measured.loaders
    match measured.task:
        case "classify":
            classification_report(page, outcome, load_image=show.image)
        case "multilabel":
            multilabel_report(page, outcome, load_image=show.image)
        case "segment":
            segmentation_report(page, outcome, load_masks=lambda path: show.masks(path, len(measured.classes)))
        case "detect":
            detection_report(page, outcome, load_image=show.image)
        case _:
            image, heat, mask = show.image, show.map, show.mask
            anomaly_report(page, outcome, load_image=image, load_map=heat, load_mask=mask, rate_is="certified")


def _counted(measured: _Measured) -> str:
    """How many images the figures are of, and how many could not be read."""
    told, lost = f"measured on {len(measured.outcome.paths)} images", measured.skipped
    return f"{told}, {len(lost)} left out: first {lost[0].message}" if lost else told


def _told(metrics: dict[str, Any], passed: Gate | None) -> list[str]:
    """What is worth a line on the terminal."""
    lines = []
    for key in _SHOWN:
        if isinstance(metrics.get(key), float):
            found = metrics["intervals"].get(key) or {"low": None, "high": None}
            # An interval of no width says that no case was seen, not that there is none.
            is_told = found["low"] not in (None, found["high"])
            ends = f"  [{found['low']:.4f}, {found['high']:.4f}]" if is_told else ""
            lines.append(f"{key.replace('_', ' '):18} {metrics[key]:.4f}{ends}")
    if passed and passed.measured:
        asked, choice = passed.measured.asked_recall, passed.measured.at_recall
        for where, passage in (("chosen on these images", choice.same_images), ("cross-fitted", choice.cross_fitted)):
            if passage:
                overkill = f"overkill {percent(passage.overkill.mean)} ({percent_range(passage.overkill)})"
                lines.append(f"recall {asked:g}, {where}: {overkill}, escapes {percent(passage.escapes.mean)}")
    return [*lines, *unknown_lines(metrics.get("unknown"))]


def _open(model: Path, precision: Precision | None = None, *, name: str) -> _Opened:
    if (model / "bundle.json").is_file():
        predictor = Predictor(model, precision=precision)
        bundle = predictor.bundle
        rate = None if bundle.threshold is None else bundle.threshold.false_alarm_rate
        return _Opened(name, predictor, bundle.decode, bundle.task, bundle.classes, rate, predictor.precision)
    if precision is not None:
        raise SettingsError(
            f"--precision {precision}: '{model}' is no bundle, and a model has one precision; "
            f"'pangu-cv export {model} --out BUNDLE --precision {precision}' writes one that holds it"
        )
    saved = load_model(folder_of(model))
    config = saved.model.config
    rate = saved.model.certified_rate if isinstance(saved.model, ClassifyModel) else None
    if isinstance(saved.model, AnomalyModel):
        fitted = saved.model.calibration
        rate = saved.model.config.false_alarm_rate if fitted is None else fitted.certified_rate
    classes = () if isinstance(saved.model, AnomalyModel) else saved.model.classes
    spec = saved.provenance.decode
    return _Opened(name, TorchDecider(saved.model), spec, config.kind, classes, rate, learnt=saved.learnt)
