"""RESULTS.md, part B: anomaly detection."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.markdown import NOT_RUN, Promise, Results, from_json, number, points, table, verdict
from benchmarks.plan import ANOMALY_SETS, CAPS_MB, FEW_HALVES, MANY_HALVES, cap_name, halves_name
from pangu_cv.metrics import Interval, mean_interval

_AUROC = 0.90
_CAP_LOSS = 0.01


def promises(results: Results) -> list[Promise]:
    """Ranking and the price of the cap; anomalib's are in its own part."""
    recipe, uncapped = results.get("anomaly-magnetic_tile-10mb"), results.get("anomaly-magnetic_tile-uncapped")
    rank = Promise("Anomaly, magnetic_tile, 10 MB bank: image AUROC, images that nothing was chosen on", "≥ 0.90")
    cap = Promise("The same bank and images against an uncapped one: loss of image AUROC", "≤ 0.01")
    if recipe is not None and (auroc := _untouched(recipe)) is not None:
        told = f"{auroc:.3f}; {recipe['summary']['image_auroc']:.3f} on all"
        rank = Promise(rank.text, rank.target, told, auroc >= _AUROC)
        if uncapped is not None and (theirs := _untouched(uncapped)) is not None:
            loss, on_all = theirs - auroc, uncapped["summary"]["image_auroc"] - recipe["summary"]["image_auroc"]
            cap = Promise(cap.text, cap.target, f"{loss:+.4f}; {on_all:+.4f} on all", loss <= _CAP_LOSS)
    return [rank, cap, *_rate_promises(results)]


def _untouched(found: Mapping[str, Any]) -> float | None:
    """Image AUROC of what nothing was chosen on; None where a quick run has none of it."""
    return (found["untouched"] or {}).get("image_auroc")


def _rate_promises(results: Results) -> list[Promise]:
    made = []
    for cap in CAPS_MB[:2]:
        text = (
            f"False alarms over {MANY_HALVES} random halves of the normals, {_cap(cap)} bank: none above the rate asked"
        )
        found = _most_halves(results, cap)
        if found is None:
            made.append(Promise(text, "5 of 5 rates"))
            continue
        kept = sum(_kept(entry["asked"], mean_interval(entry["per_split"])) for entry in found["observed"])
        asked = len(found["observed"])
        told = f"{kept} of {asked}, {found['splits']} halves"
        made.append(
            Promise(text, "5 of 5 rates", told, verdict(kept == asked, is_whole=found["splits"] >= MANY_HALVES))
        )
    return made


def _most_halves(results: Results, cap: float | None) -> Mapping[str, Any] | None:
    names = [name for halves in (MANY_HALVES, FEW_HALVES) if (name := halves_name(cap, halves)) in results]
    return results[names[0]] if names else None


def _kept(asked: float, observed: Interval) -> bool:
    """On the mean of the halves: a wide interval of few of them must not keep a promise."""
    return observed.mean <= asked


def _cap(max_mb: float | None) -> str:
    return "uncapped" if max_mb is None else f"{max_mb} MB"


def section(results: Results) -> list[str]:
    """The whole part."""
    lines = [
        "## B. Anomaly detection from normal images alone",
        "",
        "`recipes/finetune/anomaly.yaml`, only the cap of the bank varies (10 MB is the recipe's). Level, input size "
        "and score were chosen on the part of magnetic_tile's test images that `splits/magnetic_tile_classes.csv` "
        "calls pool: *untouched* is the other part, *all* is both.",
        "",
    ]
    return lines + _banks(results) + _speeds(results) + _recalls(results) + _rates(results) + _halves(results)


def _each(results: Results) -> list[tuple[str, str, Mapping[str, Any] | None]]:
    cells = [(name, cap, f"anomaly-{name}-{cap_name(cap)}") for name in ANOMALY_SETS for cap in CAPS_MB]
    return [(name, _cap(cap), results.get(cell)) for name, cap, cell in cells]


def _banks(results: Results) -> list[str]:
    rows = []
    for name, cap, found in _each(results):
        if found is None:
            rows.append([f"{name}, {cap}", *[NOT_RUN] * 6])
            continue
        summary, kept = found["summary"], found["untouched"]
        rows.append(
            [
                f"{name}, {cap}",
                number(summary["image_auroc"]),
                number(kept["image_auroc"]) if kept else "–",
                number(summary["pixel_auroc"]),
                f"{found['bank_vectors']} ({found['bank_mb']:.1f} MB)",
                points(interval) if (interval := from_json(summary["recall_interval"])) else "–",
                points(interval) if (interval := from_json(summary["false_alarm_interval"])) else "–",
            ]
        )
    head = ["set, cap", "image AUROC, all", "untouched", "pixel AUROC", "bank vectors"]
    head += ["recall, %", "false alarms, % (asked 5)"]
    return table(head, rows)


def _speeds(results: Results) -> list[str]:
    rows = []
    for name, cap, found in _each(results):
        if found is None:
            rows.append([f"{name}, {cap}", *[NOT_RUN] * 6])
            continue
        memory, latency = found["peak_memory_mb"], found["latency"]
        torch_ms, onnx_ms = latency["torch"]["median_ms"], latency["onnx"]["median_ms"]
        rows.append(
            [
                f"{name}, {cap}",
                str(found["normals"]),
                f"{found['fit_seconds']:.1f}",
                f"{torch_ms:.1f}",
                f"{onnx_ms:.1f}",
                f"{onnx_ms / torch_ms:.2f}",
                f"{memory['after_fit']:.0f} ({memory['before_fit']:.0f})",
            ]
        )
    head = ["set, cap", "normals", "fit, s", "torch, ms per image", "ONNX, ms per image", "ONNX / torch"]
    head += ["peak memory, MB (before the fit)"]
    return table(head, rows)


def _recalls(results: Results) -> list[str]:
    found = {cap: results.get(f"anomaly-magnetic_tile-{cap_name(cap)}") for cap in CAPS_MB}
    kinds = sorted({kind for cell in found.values() if cell for kind in cell["summary"]["recall_per_defect"]})
    if not kinds:
        return ["Recall per defect: not run.", ""]
    rows = [[kind, *(_recall(cell, kind) for cell in found.values())] for kind in kinds]
    note = "Recall per defect of magnetic_tile, %, at the threshold for 5 % false alarms:"
    return [note, "", *table(["defect", *map(_cap, CAPS_MB)], rows)]


def _recall(cell: Mapping[str, Any] | None, kind: str) -> str:
    interval = from_json(cell["summary"]["recall_per_defect"].get(kind)) if cell else None
    return points(interval) if interval else NOT_RUN


def _rates(results: Results) -> list[str]:
    rows = []
    for name, cap, found in _each(results):
        if found is not None:
            rows.append([f"{name}, {cap}", *(_rate(entry) for entry in found["false_alarms"])])
    if not rows:
        return ["False alarms on held-out normals: not run.", ""]
    asked = ["asked 1 %", "2 %", "5 %", "10 %", "20 %"]
    note = (
        "False alarms on the set's own normal test images, %, with Wilson intervals (they need not be exchangeable "
        "with the training images). Asterisk: the normals are too few to certify the rate, the lowest they can is used:"
    )
    return [note, "", *table(["set, cap", *asked], rows)]


def _rate(entry: Mapping[str, Any]) -> str:
    interval = from_json(entry["observed"])
    star = r"\*" if entry["certified"] > entry["asked"] + 1e-12 else ""
    return f"{points(interval)}{star}" if interval else "–"


def _halves(results: Results) -> list[str]:
    rows: list[Sequence[str]] = []
    notes = []
    for cap in CAPS_MB[:2]:
        found = _most_halves(results, cap)
        if found is None:
            rows.append([_cap(cap), *[NOT_RUN] * 5])
            continue
        intervals = [(entry["asked"], mean_interval(entry["per_split"])) for entry in found["observed"]]
        rows.append([_cap(cap), *(points(i) if _kept(asked, i) else f"**{points(i)}**" for asked, i in intervals)])
        notes.append(f"{found['splits']} random halves of {found['normals']} normals ({_cap(cap)})")
        if found["difference_to_package"] is not None:
            notes.append(f"scores differ from the package's own code by {found['difference_to_package']:.1g} at most")
    lead = (
        "False alarms where images are exchangeable: learned and calibrated on one random half of magnetic_tile's "
        "normals, observed on the other, %. Mean and interval over halves (which share images); bold where the mean "
        "lies above the rate asked:"
    )
    tail = [f"{'; '.join(notes)}.", ""] if notes else []
    return [lead, "", *table(["bank", "asked 1 %", "2 %", "5 %", "10 %", "20 %"], rows), *tail]
