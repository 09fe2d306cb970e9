import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import render
from benchmarks.plan import TABLES, first_cells
from benchmarks.plan_deploy import deploy_cells
from benchmarks.plan_few_shot import few_shot_cells
from benchmarks.plan_pretrain import pretrain_cells

INTERVAL = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 20}
LATENCY = {
    name: {"median_ms": ms, "p95_ms": ms, "calls": 9} for name, ms in (("torch", 9), ("onnx", 6), ("anomalib", 30))
}


def _classify(ours: float) -> dict[str, Any]:
    methods = ("prototypes_same_features", "prototypes_plain", "ridge_plain", "prototypes_pixels")
    figures = ("temperature", "ece_fitted", "ece_plain_softmax", "nll_fitted", "nll_plain_softmax")
    values = {name: [0.8, 0.82, 0.81] for name in methods} | {name: [0.1, 0.1, 0.1] for name in figures}
    cost = {"pass_seconds": 10, "pass_embedded": 100, "run_seconds": 15, "run_embedded": 150}
    return {"backbone": "a", "seeds": [0, 1, 2], "cost": cost, "per_draw": values | {"ours": [ours, ours, ours + 0.01]}}


def _anomaly() -> dict[str, Any]:
    summary = {"image_auroc": 0.95, "pixel_auroc": None, "recall_interval": INTERVAL, "false_alarm_interval": INTERVAL}
    return {
        "summary": summary | {"recall_per_defect": {"crack": INTERVAL}},
        "untouched": None,
        "bank_vectors": 100,
        "bank_mb": 1.0,
        "normals": 20,
        "fit_seconds": 3.0,
        "peak_memory_mb": {"before_fit": 1, "after_fit": 2},
        "latency": LATENCY,
        "false_alarms": [{"asked": 0.01, "certified": 0.05, "observed": INTERVAL}] * 5,
    }


def _anomalib() -> dict[str, Any]:
    side = {"image_auroc": 0.9, "pixel_auroc": 0.9, "untouched": None, "bank_vectors": 9, "features": 3, "normals": 20}
    side["peak_memory_mb"] = {"before_fit": 1, "after_fit": 2}
    return {"ours": side | {"fit_seconds": 1}, "anomalib": side | {"fit_seconds": 5}, "latency": LATENCY}


def _parity(name: str) -> dict[str, Any]:
    same = ("decisions_unlike_predictor", "decisions_unlike_torch")
    scores = ("score_difference_to_predictor", "score_difference_to_torch")
    return {
        "task": "anomaly" if name.endswith(("tile", "ad")) else "classify",
        "images": 10,
        "holds": True,
        "certificate": {"flips": 0, "score": 1e-6, "map": 1e-5},
        "without_torch": dict.fromkeys(same, 0) | dict.fromkeys(scores, 1e-7),
        "latency": LATENCY,
        "threads": 2,
    }


def _result(name: str, ours: float) -> dict[str, Any]:
    kind = name.partition("-")[0]
    if kind == "classify":
        return _classify(ours)
    if kind == "false_alarms":
        observed = [{"asked": 0.01, "per_split": [0.0, 0.01]}] * 5
        return {"splits": 2, "normals": 40, "observed": observed, "difference_to_package": 1e-7}
    if kind == "startup":
        times = {"median_ms": 300.0, "p95_ms": 310.0, "calls": 10}
        return {"help": times, "python": times, "heavy_modules": []}
    made = {"anomaly": _anomaly, "anomalib": _anomalib, "parity": lambda: _parity(name)}
    return made[kind]()


def _few_shot(name: str) -> dict[str, Any]:
    """Ways gain three points over frozen, ours is ahead, the plain loss finds no rare class."""
    kind, _, rest = name.partition("-")
    if kind == "ways":
        accuracy = 0.8 if rest.endswith("frozen-no_variants") else 0.83
        return {"accuracy": [accuracy, accuracy + 0.01], "fit_seconds": [20.0, 30.0]}
    if kind == "tail":
        recall = {"a": 0.9, "b": 0.2 if rest.startswith("cross-entropy-flips") else 0.5}
        return {"images": {"a": 90, "b": 2}, "recall": recall, "balanced": 0.6}
    if kind == "segment":
        methods = {"ours": {"f1": 0.6}, "linear head": {"f1": 0.5}, "U-Net": {"f1": 0.4}}
        return {"methods": methods, "seconds": 60.0}
    if kind == "parity":
        worst = {"flips": 0, "score": 1e-6, "map": 0.0, "mask": 0.0, "box": 1e-5}
        return {"set": "some", "images": 50, "holds": True, "worst": worst}
    if kind == "growth":
        count = int(name.rpartition("-")[2])
        return {"seconds": 0.1 * count, "peak_memory_mb": {"before": 900.0, "after": 900.0 + count / 10}}
    sizes = [
        {"across": n, "side_px": 640 * n, "images": 96, "ap": 0.29, "peak_memory_mb": {"after": 1000.0 + n}}
        for n in (2, 4, 8)
    ]
    tiled = {"images": 96, "ap_whole": 0.3, "sizes": sizes} if "deeppcb" in name else None
    return {"ours": {"ap": 0.3, "ap50": 0.5}, "fcos": {"ap": 0.1, "ap50": 0.2}, "seconds": 60.0, "tiled": tiled}


def _pretrain(name: str, *, gain: float = 0.05) -> dict[str, Any]:
    kind = name.partition("-")[0]
    scores = [{table: {"mean": mean, "knn": mean} for table in TABLES} for mean in (0.8, 0.8 + gain)]
    targets = [{"use": table != "powerline_ir"} for table in TABLES]
    story = {"rounds": scores, "minutes": [0.0, 2.5], "images": 99, "verdict": {"targets": targets}}
    per_draw = {table: [0.7, 0.72, 0.71] for table in TABLES}
    zero_shot = {"balanced_accuracy": 0.3, "chance": 0.2}
    decibels = {"input": [20.0], "non_local_means": [27.0], "ours": [26.0]}
    made: dict[str, dict[str, Any]] = {
        "start": {"per_draw": per_draw},
        "gain": story | {"per_draw": {table: [value + gain for value in per_draw[table]] for table in TABLES}},
        "ablation": story,
        "repair": story | {"psnr_db": {"bsd68_sigma25": decibels, "polyu": decibels}},
        "labels": {"labelled": 40, "accuracy": dict.fromkeys(TABLES, 0.6)},
        "text": {"images": 9, "caption_recall": {"1": 0.1}, "zero_shot": zero_shot},
        "speed": {"images_per_s": {"ours": [90.0], "theirs": [80.0]}, "ratio": 1.1},
    }
    if name.startswith("text-scenes"):
        return made[kind] | {"zero_shot": {"scenes": zero_shot}}
    return made[kind]


def _deploy(name: str) -> dict[str, Any]:
    """Every promise kept."""
    kind, _, rest = name.partition("-")
    made: dict[str, Callable[[], dict[str, Any]]] = {
        "extract": lambda: _extract(0.99 if rest.endswith("ours") else 0.95),
        "precision": _precision,
        "start": _start,
        "graph": _graph,
        "serve": _serve,
        "flood": _flood,
        "edge": _edge,
        "browser": lambda: _browser() | AGREES,
        "node": lambda: {"seconds": 9.0} | AGREES,
        "mutants": _mutants,
        "install": lambda: _install(1.0 if rest.startswith("ours") else 10.0),
    }
    return made[kind]()


AGREES = {"images": 50, "unlike": 0, "score_difference": 1e-6}


def _spread(median: float) -> dict[str, Any]:
    return {"median": median, "low": median, "high": median, "values": [median, median]}


def _extract(figure: float, *, ratio: float = 0.25, seconds: float = 500.0) -> dict[str, Any]:
    cost = {"ms": 2.0, "params_m": 1.4, "size_mb": 5.7}
    costs = {"student": cost, "teacher": cost | {"ms": 8.0}, "ratio": ratio}
    values = {"figure": {"value": figure}, "teacher": {"value": 0.99}}
    return values | {"cost": costs, "seconds": seconds, "shape": "128 px"}


def _precision(faster: float = 2.1, lost: float = 0.0) -> dict[str, Any]:
    names = ("plain", "fp32", "fp16", "int8", "naive")
    ratios = dict.fromkeys(names, 1.0) | {"int8": 1 / faster}
    return {
        "images": 2,
        "refused": {},
        "bytes": dict.fromkeys(names, 100) | {"int8": 28},
        "timings": {name: {"median_ms": 10 * ratios[name], "ratio": ratios[name]} for name in names},
        "figures": {name: {"value": 0.9 - lost * (name == "int8"), "answers": [0, 1]} for name in names},
        "operators": {name: {"Gemm": 3.0, "Softmax": 1.0} for name in names},
        "kept_fp32": 2,
        "layers": 50,
    }


def _start() -> dict[str, Any]:
    phases = {name: _spread(100.0) for name in ("python", "import", "sums", "session", "first", "start", "whole")}
    return {"bundle_mb": 23.0, "ms": phases}


def _graph() -> dict[str, Any]:
    rates = {"plain": 9.0, "bundle": 9.9, "plain again": 9.0}
    batch = {"images_per_s": rates, "ratio": _spread(1.1), "control": _spread(1.0)}
    return {"is_same": False, "nodes": {"plain": 550, "bundle": 500}, "batches": {"1": batch, "8": batch}}


def _serve(ratio: float = 0.95) -> dict[str, Any]:
    way = {"images_per_s": {"raw": 10.0, "serve": 9.5}, "images_of_a_call": 8.0, "ratio": _spread(ratio)}
    post = {"images_per_s": 9.0, "ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0}, "waits": 0}
    ways = dict.fromkeys(("alone", "joined", "together"), way)
    return {"one_core_twice": True, "ways": ways, "files": {"as they lie": {"1": post}}}


def _flood() -> dict[str, Any]:
    memory = {"at_10": 100.0, "at_50": 101.0, "at_100": 101.0, "peak": 102.0, "growth_mb": 1.0, "growth_share": 0.01}
    after = {"bytes_held": 0.0, "waiting": 0.0, "right": 1, "ended_well": True}
    counts = {"requests": 10_000, "good": 9500, "right": 9500, "waits": 3, "agrees": True}
    broken = {"bad": {"noise": 500}, "refused": {"noise": 500}, "statuses": {"noise": {"400": 500}}}
    return counts | broken | {"after": after, "memory": memory}


def _edge() -> dict[str, Any]:
    none = dict.fromkeys(("torn_tails", "duplicates", "missing", "torn", "other_label"), 0)
    about = {"images": 1000, "kills": 50, "kills_at_work": 40, "once": 1000, "seed": 0, "seconds": 90.0}
    return none | about | {"ended_well": True}


def _browser() -> dict[str, Any]:
    times = {"first_result_ms": _spread(3000.0), "ready_ms": _spread(2000.0), "session_ms": 900.0}
    return times | {"image_ms": {"median_ms": 80.0}, "bytes": {"site": 37e6, "ready": 60e6}}


def _mutants() -> dict[str, Any]:
    labels = ("a", "b", "c", "d", "restated", "with images", "forged", "with the pin")
    levels = {label: {"sums": 5} for label in labels} | {"restated": {"passed": 5}, "forged": {"passed": 5}}
    about = {"seed": 0, "original": "passed", "mutants": 5, "kinds": {"resize": 5}}
    return about | {"checks": ["sums", "passed"], "levels": levels}


def _install(size: float) -> dict[str, Any]:
    about = {"added_mb": size, "cuda_mb": 0.0, "packages": 9, "versions": {"torch": "2"}}
    return about | {"import_ms": _spread(100 * size), "bare_ms": _spread(20.0)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results of every cell of the first benchmark; those of the others lie beside it."""
    first, second, third, fourth = (tmp_path / name for name in ("first", "pretrain", "few_shot", "deploy"))
    for cells, folder, made in (
        (first_cells(is_full=True), first, lambda name: _result(name, 0.9)),
        (pretrain_cells(is_full=True), second, _pretrain),
        (few_shot_cells(is_full=True), third, _few_shot),
        (deploy_cells(is_full=True), fourth, _deploy),
    ):
        folder.mkdir()
        for cell in cells:
            _write(folder, cell.name, made(cell.name))
    _write(first, "demo", {"install_seconds": 60, "demo_seconds": 30, "whole_seconds": 90, "install_note": "cached"})
    return first


def _page(first: Path) -> str:
    render.write(first.parent, first.parent / "RESULTS.md")
    return (first.parent / "RESULTS.md").read_text()


def _write(folder: Path, name: str, result: dict[str, Any]) -> None:
    about = {"cell": name, "date": "2026-01-01T00:00:00", "command": "python x", "commit": "abc", "seconds": 1.0}
    machine = {"cpu": "a processor", "cores": 2, "memory_gb": 8, "system": "Linux"}
    record = about | {"machine": machine, "versions": {"torch": "2"}, "result": result}
    (folder / f"{name}.json").write_text(json.dumps(record))


def _promises(page: str) -> str:
    return page.split("## A.")[0]


def test_nothing_run(tmp_path: Path) -> None:
    page = render.page({})
    promises = _promises(page)
    assert "Nothing was run yet" in promises
    assert promises.count("| not run |") >= 15
    assert "reached" not in promises


def test_everything_run(folder: Path) -> None:
    page = _page(folder)
    assert "not run" not in page.lower()
    assert "not reached" not in _promises(page)
    assert "a processor, 2 cores" in page
    assert "Lost: nowhere in these tables." in page
    assert "60 s (cached)" in page


def test_losses_are_said(folder: Path) -> None:
    for path in folder.glob("classify-*-lite0-5shot-20draws.json"):
        _write(folder, path.stem, _classify(0.7))
    slow = _parity("xsdd") | {"latency": LATENCY | {"onnx": {"median_ms": 20.0, "p95_ms": 21.0, "calls": 9}}}
    _write(folder, "parity-xsdd", slow)
    _write(
        folder, "parity-rsscn7", {"holds": False, "images": 10, "certificate": {"flips": 3, "score": "inf", "map": 0}}
    )
    page = _page(folder)
    assert _promises(page).count("**not reached**") == 5  # gain; flips, differences, torch-free, latency
    assert "Lost: neu_det against prototypes, same features" in page
    assert "**refused: 3 flips**" in page


@pytest.mark.parametrize(
    "kept", ["classify-neu_det*", "anomaly-*2mb", "false_alarms-10mb-5halves", "parity-xsdd", "startup"]
)
def test_any_subset_renders(folder: Path, kept: str) -> None:
    names = {path.name for path in folder.glob(f"{kept}.json")}
    for path in folder.glob("*.json"):
        if path.name not in names:
            path.unlink()
    assert "not run" in _page(folder)


def test_a_pretraining_that_does_not_help_is_said(folder: Path) -> None:
    second = folder.parent / "pretrain"
    _write(second, "gain-joint-0", _pretrain("gain-joint-0", gain=-0.05))
    _write(second, "speed-pipeline", _pretrain("speed-pipeline") | {"ratio": 0.5})
    promises = _promises(_page(folder))
    assert "| -4.2 [-4.2, -4.2] | **not reached** |" in promises  # one of six keeps the original
    assert "| -5.0 [-5.0, -5.0] | **not reached** |" in promises
    assert "| 0.50 | **not reached** |" in promises


def test_figures_of_earlier_code_are_named(folder: Path) -> None:
    second = folder.parent / "pretrain"
    for cell in pretrain_cells(is_full=True):
        record = json.loads((second / f"{cell.name}.json").read_text())
        code = "earlier" if cell.name == "start" else cell.code
        (second / f"{cell.name}.json").write_text(json.dumps(record | {"code": code}))
    chapter = _page(folder).split("## Pretraining")[1].split("## A.")[0]
    assert "**1 of these cells were measured by earlier code**, the next run measures them again: start." in chapter


@pytest.mark.parametrize(
    "kept", ["ways-neu_det-*", "ways-*-frozen*", "detect-deeppcb-10-0", "segment-*-5-1", "tail-*-2"]
)
def test_any_subset_of_few_labels_renders(folder: Path, kept: str) -> None:
    third = folder.parent / "few_shot"
    names = {path.name for path in third.glob(f"{kept}.json")}
    assert names
    for path in third.glob("*.json"):
        if path.name not in names:
            path.unlink()
    assert "not run" in _page(folder).lower()


@pytest.mark.parametrize("kept", ["start", "gain-*-0", "repair-both*", "labels-start*", "text-neu*", "ablation-mae*"])
def test_any_subset_of_pretraining_renders(folder: Path, kept: str) -> None:
    second = folder.parent / "pretrain"
    names = {path.name for path in second.glob(f"{kept}.json")}
    for path in second.glob("*.json"):
        if path.name not in names:
            path.unlink()
    assert "not run" in _page(folder).lower()


@pytest.mark.parametrize(
    "kept",
    [
        "extract-xsdd-25-ours",
        "precision-lite0",
        "start-vit*",
        "graph-lite0",
        "serve-lite0",
        "flood-*",
        "edge-*",
        "browser-lite0",
        "mutants-*",
        "install-ours",
    ],
)
def test_any_subset_of_deployment_renders(folder: Path, kept: str) -> None:
    fourth = folder.parent / "deploy"
    names = {path.name for path in fourth.glob(f"{kept}.json")}
    assert names
    for path in fourth.glob("*.json"):
        if path.name not in names:
            path.unlink()
    assert "not run" in _page(folder).lower()


def test_what_deployment_does_not_reach_is_said(folder: Path) -> None:
    fourth = folder.parent / "deploy"
    for model in ("vit_tiny", "lite0"):
        _write(fourth, f"serve-{model}", _serve(0.7))
    flood, edge, mutants = _flood(), _edge(), _mutants()
    memory = flood["memory"] | {"growth_mb": 20.0, "growth_share": 0.2}
    _write(fourth, "flood-lite0-10000", flood | {"right": 9499, "agrees": False, "memory": memory})
    _write(fourth, "edge-lite0-1000-50kills", edge | {"duplicates": 1, "once": 999})
    _write(fourth, "browser-lite0", _browser() | AGREES | {"unlike": 2, "first_result_ms": _spread(6000.0)})
    levels = mutants["levels"] | {"b": {"passed": 1, "sums": 4}}
    _write(fourth, "mutants-lite0", mutants | {"levels": levels})
    _write(fourth, "install-anomalib", _install(0.5))
    _write(fourth, "extract-xsdd-25-ours", _extract(0.9, ratio=0.3, seconds=900.0))
    _write(fourth, "precision-lite0", _precision(1.7, lost=0.02))
    promises = _promises(_page(folder))
    assert "| 30.0% | **not reached** |" in promises
    assert "| 1.70 times | **not reached** |" in promises
    assert "| 9499 of 9500 | **not reached** |" in promises
    assert "| +20.0 MB (+20.0 %) | **not reached** |" in promises
    assert (
        promises.count("**not reached**") == 11 + 6 + 2
    )  # three of the sub-model, three rivals; time and loss of int8


def test_a_precision_that_is_refused_is_said(folder: Path) -> None:
    fourth = folder.parent / "deploy"
    one = _precision()
    for part in ("bytes", "timings", "figures", "operators"):
        del one[part]["int8"]
    _write(fourth, "precision-vit_tiny", one | {"refused": {"int8": "int8 loses 3 points"}, "layers": None})
    page = _page(folder)
    assert "refused by the export" in _promises(page)
    assert "int8 loses 3 points" in page


def test_an_install_that_failed_proves_nothing(folder: Path) -> None:
    fourth = folder.parent / "deploy"
    _write(fourth, "install-anomalib", {"told": "pip could not install it here"})
    page = _page(folder)
    assert "pip could not install it here" in page
    assert "| smaller than both | 1 MB; lightly-train 10 MB | not run |" in page


def test_a_quick_run_reaches_nothing(folder: Path) -> None:
    fourth = folder.parent / "deploy"
    _write(fourth, "flood-lite0-10000", _flood() | {"requests": 400, "right": 380, "good": 380})
    _write(fourth, "edge-lite0-1000-50kills", _edge() | {"images": 40, "kills": 4, "once": 40})
    promises = _promises(_page(folder))
    assert "| 380 of 380 | not run |" in promises
    assert "| 40 of 40, 4 kills | not run |" in promises
