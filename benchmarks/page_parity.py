"""RESULTS.md, parts C to E: parity and latency, start-up, demo."""

from collections.abc import Mapping
from typing import Any

from benchmarks.markdown import NOT_RUN, Promise, Results, table
from benchmarks.plan import ANOMALY_SETS, TABLES

MODELS = (*TABLES, *ANOMALY_SETS)
_LIMIT = 1e-3
_SAME_RUNTIME = 1e-6
_HELP_MS = 500


def _cells(results: Results) -> dict[str, Mapping[str, Any]]:
    return {name: results[f"parity-{name}"] for name in MODELS if f"parity-{name}" in results}


def promises(results: Results) -> list[Promise]:
    """Parity over all models, speed of the bundle, start-up."""
    found = _cells(results)
    flips = Promise("Exported model against torch, every test image: decisions that differ", "0")
    drift = Promise("The same: largest difference of a score or map", "≤ 1e-3")
    free = Promise("`predict` where torch cannot be imported: decisions that differ, to the bundle and to torch", "0")
    speed = Promise("Latency of the bundle against torch eager, per model", "ratio ≤ 1 for each")
    if len(found) < len(MODELS):
        measured = f"{NOT_RUN} ({len(found)} of {len(MODELS)} models)"
        parity = [Promise(p.text, p.target, measured) for p in (flips, drift, free, speed)]
    else:
        parity = _judged(found, flips, drift, free, speed)
    return [*parity, *_startup_promises(results)]


def _judged(found: Mapping[str, Mapping[str, Any]], *drafts: Promise) -> list[Promise]:
    flips, drift, free, speed = drafts
    worst = [cell["certificate"] for cell in found.values()]
    images = sum(cell["images"] for cell in found.values())
    flipped = sum(w["flips"] for w in worst)
    largest = max(float(w[key]) for w in worst for key in ("score", "map"))
    exported = [cell for cell in found.values() if cell["holds"]]
    unlike = sum(_unlike(cell) for cell in exported)
    ratios = [_ratio(cell) for cell in exported]
    all_exported = len(exported) == len(found)
    return [
        Promise(flips.text, flips.target, f"{flipped} of {images}", flipped == 0),
        Promise(drift.text, drift.target, f"{largest:.1g}", largest <= _LIMIT),
        Promise(free.text, free.target, f"{unlike} of {images}", unlike == 0 and all_exported),
        Promise(
            speed.text,
            speed.target,
            f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else "no bundle",
            all_exported and max(ratios) <= 1,
        ),
    ]


def _unlike(cell: Mapping[str, Any]) -> int:
    found = cell["without_torch"]
    return int(found["decisions_unlike_predictor"] + found["decisions_unlike_torch"])


def _ratio(cell: Mapping[str, Any]) -> float:
    return float(cell["latency"]["onnx"]["median_ms"] / cell["latency"]["torch"]["median_ms"])


def _startup_promises(results: Results) -> list[Promise]:
    quick = Promise("`pangu-cv --help`", "≤ 0.5 s")
    light = Promise("The same: torch among its modules", "no")
    found = results.get("startup")
    if found is None:
        return [quick, light]
    median = found["help"]["median_ms"]
    has_torch = "torch" in found["heavy_modules"]
    return [
        Promise(quick.text, quick.target, f"{median / 1000:.2f} s", median <= _HELP_MS),
        Promise(light.text, light.target, "yes" if has_torch else "no", not has_torch),
    ]


def section(results: Results) -> list[str]:
    """Parts C, D and E."""
    return [*_parity(results), *_startup(results), *_demo(results)]


def _parity(results: Results) -> list[str]:
    found, rows, speeds = _cells(results), [], []
    for name in MODELS:
        cell = found.get(name)
        if cell is None or not cell["holds"]:
            text = NOT_RUN if cell is None else f"**refused: {cell['certificate']['flips']} flips**"
            rows.append([name, *[text] * 6])
            speeds.append([name, *[NOT_RUN if cell is None else "no bundle"] * 5])
            continue
        worst, free = cell["certificate"], cell["without_torch"]
        rows.append(
            [
                name,
                str(cell["images"]),
                str(worst["flips"]),
                f"{worst['score']:.1e}",
                f"{worst['map']:.1e}" if cell["task"] == "anomaly" else "–",
                _unlike_text(free, "predictor", _SAME_RUNTIME),
                _unlike_text(free, "torch", _LIMIT),
            ]
        )
        torch_ms, onnx_ms = cell["latency"]["torch"], cell["latency"]["onnx"]
        ratio = _ratio(cell)
        speeds.append(
            [
                name,
                f"{torch_ms['median_ms']:.1f} ({torch_ms['p95_ms']:.1f})",
                f"{onnx_ms['median_ms']:.1f} ({onnx_ms['p95_ms']:.1f})",
                f"{ratio:.2f}",
                "yes" if ratio <= 1 else "**no**",
                str(cell["threads"]),
            ]
        )
    head = ["model", "images", "flips", "score difference", "map difference"]
    head += ["`predict` without torch, to the bundle: decisions, scores", "to torch: decisions, scores"]
    timing = ["model", "torch eager, ms (p95)", "ONNX, ms (p95)", "ONNX / torch", "≤ 1", "threads"]
    return [
        "## C. One decision, with and without torch",
        "",
        "Each model (seed 0) exported and certified on all its test images, limits 0 flips and 1e-3; then `pangu-cv "
        "predict` in a process where importing torch fails (it prints scores with 6 digits). Bold: more than 1e-6 to "
        "the bundle run in a process with torch, or more than 1e-3 to torch.",
        "",
        *table(head, rows),
        "From one decoded image in memory, of the set's own size, to the decision; median and 95th percentile, the "
        "engines in turn:",
        "",
        *table(timing, speeds),
    ]


def _unlike_text(free: Mapping[str, Any], other: str, limit: float) -> str:
    difference = free[f"score_difference_to_{other}"]
    shown = f"{difference:.1e}" if difference <= limit else f"**{difference:.1e}**"
    return f"{free[f'decisions_unlike_{other}']}, {shown}"


def _startup(results: Results) -> list[str]:
    lines = ["## D. Start-up", ""]
    found = results.get("startup")
    if found is None:
        return [*lines, "Not run.", ""]
    text, bare = found["help"], found["python"]
    heavy = ", ".join(found["heavy_modules"]) or "none"
    return [
        *lines,
        f"`pangu-cv --help`: {text['median_ms']:.0f} ms (median of {text['calls']}, p95 {text['p95_ms']:.0f} ms); "
        f"a bare `python -c pass` in turn: {bare['median_ms']:.0f} ms. Heavy modules imported: {heavy}.",
        "",
    ]


def _demo(results: Results) -> list[str]:
    lines = ["### The demo", ""]
    found = results.get("demo")
    if found is None:
        return [*lines, "Not run (`python benchmarks/first_demo.py`).", ""]
    return [
        *lines,
        f"A fresh clone, `make demo` as a whole: {found['whole_seconds']:.0f} s; the install "
        f"{found['install_seconds']:.0f} s ({found['install_note']}), the demo itself {found['demo_seconds']:.0f} s.",
        "",
    ]
