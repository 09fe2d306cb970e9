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
        A YAML file, or the name of a shipped recipe: classify, multilabel, anomaly, segment, detect.
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
    ap = metrics["ap"]
    second = f"AP                {ap['mean']:.1%}" if ap else "AP                undefined"
    return _trained(metrics, "AP50", metrics["ap50"], second)


def _segment(metrics: dict[str, Any]) -> list[str]:
    return _trained(metrics, "F1", metrics["f1"], f"mean IoU          {metrics['mean_iou']['mean']:.1%}")


def _multilabel(metrics: dict[str, Any]) -> list[str]:
    first, interval, draws = metrics["draws"][0], metrics["mean_ap"], len(metrics["draws"])
    if draws == 1:
        interval = first["intervals"]["mean_ap"]
    band = f" [{interval['low']:.1%}, {interval['high']:.1%}]" if interval and interval["low"] is not None else ""
    mean = f"{interval['mean']:.1%}" if interval else "undefined"
    chance = f"{first['chance_ap']:.1%}" if first["chance_ap"] is not None else "undefined"
    return [
        f"labelled images   {first['labelled']}",
        f"mean AP           {mean}{band} on {first['images']} images, {draws} draw(s); by chance {chance}",
        f"exact match       {first['exact_match']:.1%}",
    ]


def _trained(metrics: dict[str, Any], name: str, interval: dict[str, Any] | None, second: str) -> list[str]:
    """What detect and segment say alike: labels, the first figure with its interval, a second one, training."""
    first, draws = metrics["draws"][0], len(metrics["draws"])
    band = f" [{interval['low']:.1%}, {interval['high']:.1%}]" if interval and interval["low"] is not None else ""
    mean = f"{interval['mean']:.1%}" if interval else "undefined"
    return [
        f"labelled images   {first['labelled']}",
        f"{name:17} {mean}{band} on {first['images']} images, {draws} draw(s)",
        second,
        f"training          {first['seconds']:.0f} s, {first['learning']:,} numbers learnt",
    ]


def figures(metrics: dict[str, Any]) -> list[str]:
    """The figures of a run, a line each, for people."""
    skipped = metrics["skipped"]
    lines = [f"left out          {len(skipped)} unreadable image(s), named in the report"] if skipped else []
    if metrics["task"] == "classify":
        draws = metrics["draws"]
        interval = metrics["balanced_accuracy"]
        band = f" [{interval['low']:.1%}, {interval['high']:.1%}]" if interval["low"] is not None else ""
        first = draws[0]
        return [
            f"labelled images   {first['labelled']}",
            *([f"without a label   {first['unlabelled']['told']}"] if "unlabelled" in first else []),
            f"balanced accuracy {interval['mean']:.1%}{band} on {first['images']} images, {len(draws)} draw(s)",
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
