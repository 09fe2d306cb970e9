"""``pangu-cv finetune``."""

import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from pangu_cv import finetune as stage
from pangu_cv import recipes
from pangu_cv.verbs.unknown import unknown_lines


def finetune(recipe: str, *overrides: str, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Fit a model to a few labels, measure it, write a checkpoint and a report.

    Parameters
    ----------
    recipe
        A YAML file, or the name of a shipped recipe: classify, classify_adapt (tries ways of adapting within a time
        budget), multilabel, anomaly, segment, detect.
    overrides
        Settings as key=value, e.g. data.path=my_images few_shot.shots=10.
    as_json
        Print the figures as JSON.
    """
    settings = stage.FinetuneRecipe.load(recipes.find("finetune", recipe), overrides)
    result = stage.finetune(settings)
    if as_json:
        print(json.dumps(result.metrics))
        return
    remarks = (f"! {remark}" for remark in (*result.metrics["notes"], *result.metrics["doubts"]))
    for line in (*figures(result.metrics), *remarks):
        print(line)
    print(f"\nmodel   {result.model}\nreport  {result.report}")
    print(f"Next: pangu-cv export {result.folder} --out {Path(result.folder) / 'bundle'}")


def _detect(metrics: dict[str, Any]) -> list[str]:
    return _trained(metrics, "AP50", "ap50", f"AP                {_measured(metrics, 'ap')}")


def _segment(metrics: dict[str, Any]) -> list[str]:
    return _trained(metrics, "F1", "f1", f"mean IoU          {_measured(metrics, 'mean_iou')}")


def _multilabel(metrics: dict[str, Any]) -> list[str]:
    first = metrics["draws"][0]
    chance = f"{first['chance_ap']:.1%}" if first["chance_ap"] is not None else "undefined"
    return [
        f"labelled images   {first['labelled']}",
        f"mean AP           {_measured(metrics, 'mean_ap')}{_where(metrics)}; by chance {chance}",
        f"exact match       {first['exact_match']:.1%}",
    ]


def _trained(metrics: dict[str, Any], name: str, key: str, second: str) -> list[str]:
    """What detect and segment say alike: labels, the first figure with its interval, a second one, training."""
    first = metrics["draws"][0]
    return [
        f"labelled images   {first['labelled']}",
        f"{name:17} {_measured(metrics, key)}{_where(metrics)}",
        second,
        f"training          {first['seconds']:.0f} s, {first['learning']:,} numbers learnt",
    ]


def _measured(metrics: dict[str, Any], key: str) -> str:
    """A figure with its 95 %: over the draws, or over the images of one where there are no others, or all are alike."""
    draws, interval = metrics["draws"], metrics[key]
    if interval is None or interval["low"] in (None, interval["high"]):
        interval = draws[0]["intervals"][key] or interval
    if interval is None:
        return "undefined"
    # An interval of no width says that no case was seen, not that there is none.
    low, high = interval["low"], interval["high"]
    told = "" if low in (None, high) else f" [{max(0.0, low):.1%}, {min(1.0, high):.1%}]"
    return f"{interval['mean']:.1%}{told}"


def _where(metrics: dict[str, Any]) -> str:
    draws = metrics["draws"]
    return f" on {draws[0]['images']} images, {len(draws)} draw(s)"


def figures(metrics: dict[str, Any]) -> list[str]:
    """The figures of a run, a line each, for people."""
    skipped = metrics["skipped"]
    lines = [f"left out          {len(skipped)} unreadable image(s), named in the report"] if skipped else []
    if metrics["task"] == "classify":
        first = metrics["draws"][0]
        return [
            f"labelled images   {first['labelled']}",
            *([f"without a label   {first['unlabelled']['told']}"] if "unlabelled" in first else []),
            f"balanced accuracy {_measured(metrics, 'balanced_accuracy')}{_where(metrics)}",
            f"calibration error {first['expected_calibration_error']:.1%}",
            *([f"threshold         {metrics['threshold']['statement']}"] if "threshold" in metrics else []),
            *unknown_lines(first.get("unknown")),
            *lines,
        ]
    if metrics["task"] == "multilabel":
        return [*_multilabel(metrics), *lines]
    if metrics["task"] == "detect":
        return [*_detect(metrics), *lines]
    if metrics["task"] == "segment":
        return [*_segment(metrics), *lines]
    threshold, test = metrics["threshold"], metrics["test"]
    lines = [f"threshold         {threshold['value']:.3f}: {threshold['statement']}", *lines]
    if test is None:
        return lines
    names = {
        "image_auroc": "image AUROC",
        "pixel_auroc": "pixel AUROC",
        "false_alarm_rate": "false alarms",
        "recall": "recall",
    }
    shown = [f"{label:17} {test[key]:.3f}" for key, label in names.items() if test.get(key) is not None]
    return [*shown, *lines]
