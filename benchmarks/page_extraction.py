"""RESULTS.md, part K: smaller models within a budget, and what other precisions buy."""

from collections.abc import Mapping
from typing import Any

from benchmarks.deploy_subjects import SUBJECTS
from benchmarks.markdown import NOT_RUN, Promise, Results, number, table
from benchmarks.plan_deploy import (
    EXTRACTIONS,
    FULL_EXTRACTIONS,
    FULL_PRECISIONS,
    STUDENTS,
    extract_name,
    precision_name,
)

NEAR, KEPT, MINUTES = 0.10, 0.97, 10.0
FASTER, SMALLER, LOST, LOST_AUROC = 2.0, 0.3, 0.5, 0.3


def promises(results: Results) -> list[Promise]:
    """Extraction, then precisions."""
    return [*_extraction(results), *[p for one in FULL_PRECISIONS for p in _precision(results, *one)]]


def _extraction(results: Results) -> list[Promise]:
    table_, ratio = EXTRACTIONS[0]
    found = {student: results.get(extract_name(table_, ratio, student)) for student in STUDENTS}
    ours = found["ours"]
    head = f"Sub-model of a ViT-Tiny fine-tuned on {table_} for {ratio:.0%} of its time"
    texts = (f"{head}: time as measured", "The same: of the teacher's balanced accuracy", "The same: minutes it took")
    targets = (f"within {NEAR:.0%} of what was asked", f"≥ {KEPT:.0%}", f"≤ {MINUTES:g}")
    if ours is None:
        made = [Promise(text, target) for text, target in zip(texts, targets, strict=True)]
    else:
        share, kept = ours["cost"]["ratio"], ours["figure"]["value"] / ours["teacher"]["value"]
        minutes = ours["seconds"] / 60
        made = [
            Promise(texts[0], targets[0], f"{share:.1%}", abs(share - ratio) <= NEAR * ratio),
            Promise(texts[1], targets[1], f"{kept:.1%}", kept >= KEPT),
            Promise(texts[2], targets[2], f"{minutes:.1f}", minutes <= MINUTES),
        ]
    return [*made, *[_ahead(ours, other, student) for student, other in found.items() if student != "ours"]]


def _ahead(ours: Any, other: Any, student: str) -> Promise:
    text = f"The same: ahead of {student}, points of balanced accuracy"
    if ours is None or other is None:
        return Promise(text, "> 0")
    gap = 100 * (ours["figure"]["value"] - other["figure"]["value"])
    told = f"{gap:+.1f} on {ours['figure']['images']} images, one seed (at {other['cost']['ratio']:.0%} of the time)"
    return Promise(text, "> 0", told, gap > 0)


def _precision(results: Results, model: str, all_labels: bool) -> list[Promise]:
    label = f"int8 against the plain fp32 graph, {_label(model, all_labels)}"
    one = results.get(precision_name(model, all_labels))
    most = LOST_AUROC if model == "anomaly" else LOST
    targets = (f"≥ {FASTER:g} times (aim)", f"≤ {SMALLER:g} times", f"≤ {most:g} points")
    texts = (f"{label}: faster", f"{label}: bytes of the network", f"{label}: lost on test images")
    if one is None or "int8" not in one["timings"]:
        told = NOT_RUN if one is None else "refused by the export"
        return [
            Promise(text, target, told, None if one is None else False)
            for text, target in zip(texts, targets, strict=True)
        ]
    faster, bytes_, lost = 1 / one["timings"]["int8"]["ratio"], _network_share(one, "int8"), _lost(one, "int8")
    size = f"{bytes_:.2f} times"
    if bank := one.get("bank_bytes"):
        size += f" (with the bank of {bank / 1e6:.1f} MB, which is left alone: {_share(one, 'int8'):.2f})"
    return [
        Promise(texts[0], targets[0], f"{faster:.2f} times", faster >= FASTER),
        Promise(texts[1], targets[1], size, bytes_ <= SMALLER),
        Promise(texts[2], targets[2], f"{lost:+.2f} points", lost <= most),
    ]


def _label(model: str, all_labels: bool) -> str:
    """With how many labels, where a model may have learnt from few or all."""
    several = model in {name for name, is_all in FULL_PRECISIONS if is_all}
    return SUBJECTS[model].label + (f", {'all' if all_labels else 'five'} labels" if several else "")


def _share(one: Any, name: str) -> float:
    return float(one["bytes"][name] / one["bytes"]["plain"])


def _network_share(one: Any, name: str) -> float:
    """Without the bank of an anomaly model, which is its examples and not its network."""
    bank = one.get("bank_bytes", 0)
    return float((one["bytes"][name] - bank) / (one["bytes"]["plain"] - bank))


def _lost(one: Any, name: str) -> float:
    return 100 * float(one["figures"]["plain"]["value"] - one["figures"][name]["value"])


def section(results: Results) -> list[str]:
    """The whole part."""
    return ["## K. Smaller models, other precisions", "", *_students(results), *_precisions(results)]


def _students(results: Results) -> list[str]:
    rows = []
    for subject, ratio in FULL_EXTRACTIONS:
        for student in STUDENTS if (subject, ratio) in EXTRACTIONS else STUDENTS[:1]:
            one = results.get(extract_name(subject, ratio, student))
            if one is None:
                rows.append([f"{subject}, {ratio:.0%}, {student}", *[NOT_RUN] * 6])
                continue
            cost = one["cost"]
            rows.append(
                [
                    f"{subject}, {ratio:.0%}, {student}",
                    f"{100 * one['figure']['value']:.1f} ({100 * one['teacher']['value']:.1f})",
                    f"{cost['student']['ms']:.1f} ({cost['teacher']['ms']:.1f})",
                    f"{cost['ratio']:.1%}",
                    f"{cost['student']['params_m']:.2f} ({cost['teacher']['params_m']:.2f})",
                    str(one.get("shape") or one.get("image_px") or "–"),
                    f"{one['seconds'] / 60:.1f}",
                ]
            )
    note = (
        "The teacher is a ViT-Tiny whose last six blocks learnt all labels of the pool (anomaly: its bank). Students "
        "learn on the pool without labels, but for those of labels alone; figures are of the test images, balanced "
        "accuracy in % (image AUROC for anomaly), the teacher's in brackets, one seed. Torch-Pruning is cut to the "
        "same time, at the teacher's input and at 128 px, near what ours takes, and taught the same way for as long; "
        "networks on labels alone are trained for as long at the largest input, in steps of 32 px up to 224, within "
        "the same time. MobileNetV4 begins from random weights, Lite0 from ImageNet's:"
    )
    heads = ["student", "figure", "ms", "of the time", "M parameters", "form", "minutes"]
    return [note, "", *table(heads, rows)]


def _precisions(results: Results) -> list[str]:
    rows = []
    for model, all_labels in FULL_PRECISIONS:
        one, label = results.get(precision_name(model, all_labels)), _label(model, all_labels)
        if one is None:
            rows.append([label, *[NOT_RUN] * 6])
            continue
        for name in one["timings"]:
            flips = _flips(one["figures"], name)
            timing, figure = one["timings"][name], one["figures"][name]
            rows.append(
                [
                    f"{label}, {name}",
                    f"{timing['median_ms']:.1f}",
                    f"{1 / timing['ratio']:.2f}",
                    f"{one['bytes'][name] / 1e6:.1f} ({_share(one, name):.2f})",
                    f"{100 * figure['value']:.2f}",
                    f"{_lost(one, name):+.2f}",
                    f"{flips} of {one['images']}",
                ]
            )
        rows += [[f"{label}, {name}", *["refused"] * 6] for name in one["refused"]]
    heads = ["graph", "ms", "times faster", "MB (share)", "figure", "points lost", "flips"]
    note = (
        "Graphs of one model in turn, one image a call, all cores; *plain* is the exporter's graph, *fp32* the "
        "bundle's, *naive* `quantize_static` with its defaults. Figures are of test images (balanced accuracy, image "
        "AUROC, AP50 of boxes, F1 of pixels, %). A flip is an image with another label, another set of boxes, or a "
        "class that its mask shows or lacks:"
    )
    return [note, "", *table(heads, rows), *_shares(results), *_refusals(results)]


def _flips(figures: Mapping[str, Any], name: str) -> int:
    if "flips" in figures[name]:
        return int(figures[name]["flips"])
    plain, found = figures["plain"]["answers"], figures[name]["answers"]  # of cells of earlier code
    return sum(a != b for a, b in zip(plain, found, strict=True))


def _shares(results: Results) -> list[str]:
    """Where the time of an int8 graph goes, and of the plain one."""
    lines = []
    for model, all_labels in FULL_PRECISIONS:
        one, label = results.get(precision_name(model, all_labels)), _label(model, all_labels)
        if one is None or "int8" not in one["operators"]:
            continue
        told = []
        for name in ("plain", "int8"):
            ms = one["operators"][name]
            top = list(ms.items())[:6]
            told.append(f"{name} " + ", ".join(f"{operator} {number(value, '.2f')}" for operator, value in top))
        kept = f"{one['kept_fp32']} of {one['layers']} layers left in fp32" if one["layers"] else ""
        lines.append(f"- {label}, ms by operator: {'; '.join(told)}. {kept}")
    return [*lines, ""] if lines else []


def _refusals(results: Results) -> list[str]:
    found = [
        f"- {_label(*which)}: {reason}"
        for which in FULL_PRECISIONS
        if (one := results.get(precision_name(*which)))
        for reason in one["refused"].values()
    ]
    return ["Refused by the export:", "", *found, ""] if found else []
