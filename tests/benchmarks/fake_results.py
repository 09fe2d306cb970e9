"""Results of cells as a page reads them, made up: every promise kept unless told otherwise."""

from collections.abc import Callable
from typing import Any

from benchmarks.iterate_labelling import PRICES
from benchmarks.iterate_screening import ORDERS, PREVALENCES
from benchmarks.page_iterate import WAYS
from benchmarks.plan import TABLES
from benchmarks.plan_pretrain import BESIDE_EMBEDDED, GPU_RUNS, gpu_name

INTERVAL = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 20}
LATENCY = {
    name: {"median_ms": ms, "p95_ms": ms, "calls": 9} for name, ms in (("torch", 9), ("onnx", 6), ("anomalib", 30))
}


def classify(ours: float) -> dict[str, Any]:
    methods = ("prototypes_same_features", "prototypes_plain", "ridge_plain", "prototypes_pixels")
    figures = ("temperature", "ece_fitted", "ece_plain_softmax", "nll_fitted", "nll_plain_softmax")
    values = {name: [0.8, 0.82, 0.81] for name in methods} | {name: [0.1, 0.1, 0.1] for name in figures}
    cost = {"pass_seconds": 10, "pass_embedded": 100, "run_seconds": 15, "run_embedded": 150}
    return {"backbone": "a", "seeds": [0, 1, 2], "cost": cost, "per_draw": values | {"ours": [ours, ours, ours + 0.01]}}


def anomaly() -> dict[str, Any]:
    summary = {"image_auroc": 0.95, "pixel_auroc": None, "recall_interval": INTERVAL, "false_alarm_interval": INTERVAL}
    return {
        "summary": summary | {"recall_per_defect": {"crack": INTERVAL}},
        "untouched": {"image_auroc": 0.94},
        "bank_vectors": 100,
        "bank_mb": 1.0,
        "normals": 20,
        "fit_seconds": 3.0,
        "peak_memory_mb": {"before_fit": 1, "after_fit": 2},
        "latency": LATENCY,
        "false_alarms": [{"asked": 0.01, "certified": 0.05, "observed": INTERVAL}] * 5,
    }


def anomalib() -> dict[str, Any]:
    side = {"image_auroc": 0.9, "pixel_auroc": 0.9, "untouched": None, "bank_vectors": 9, "features": 3, "normals": 20}
    side["peak_memory_mb"] = {"before_fit": 1, "after_fit": 2}
    return {"ours": side | {"fit_seconds": 1}, "anomalib": side | {"fit_seconds": 5}, "latency": LATENCY}


def parity(name: str) -> dict[str, Any]:
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


def result(name: str, ours: float) -> dict[str, Any]:
    kind = name.partition("-")[0]
    if kind == "classify":
        return classify(ours)
    if kind == "false_alarms":
        splits = 5 if name.endswith("5halves") else 20
        observed = [{"asked": 0.01, "per_split": [0.0, 0.01]}] * 5
        return {"splits": splits, "normals": 40, "observed": observed, "difference_to_package": 1e-7}
    if kind == "startup":
        times = {"median_ms": 300.0, "p95_ms": 310.0, "calls": 10}
        return {"help": times, "python": times, "heavy_modules": []}
    made = {"anomaly": anomaly, "anomalib": anomalib, "parity": lambda: parity(name)}
    return made[kind]()


def few_shot(name: str) -> dict[str, Any]:
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
    return detect() | {"tiled": tiled}


def detect(ap: float = 0.3) -> dict[str, Any]:
    figures = {"ours": {"ap": ap, "ap50": 0.5}, "fcos": {"ap": 0.1, "ap50": 0.2}}
    return figures | {"seconds": 60.0, "steps": {"ours": 600, "fcos": 39}, "tiled": None}


def pretrain(name: str, *, gain: float = 0.05) -> dict[str, Any]:
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
        "gpu": gpu(name),
        "embedded": {
            "per_draw": {
                b: {table: [0.7 + 0.01 * n] * 3 for table in TABLES} for n, b in enumerate(BESIDE_EMBEDDED[::-1])
            }
        },
    }
    if name.startswith("text-scenes"):
        return made[kind] | {"zero_shot": {"scenes": zero_shot}}
    return made[kind]


def gpu(name: str) -> dict[str, Any]:
    network = next((run[0] for run in GPU_RUNS if gpu_name(run[0], run[2]) == name), "ViT-S")
    speed = {"images_per_s": 9.0, "tflops": 495.0, "mfu": 0.5, "product_tflops": 700.0, "peak_gb": 9.0}
    about = {"gpu": "a GPU", "network": network, "parameters": 10**8, "batch": 8, "checkpointing": False}
    return speed | about | {"hidden": 0.5 if "hidden" in name else 0.0}


def deploy(name: str) -> dict[str, Any]:
    """Every promise kept."""
    kind, _, rest = name.partition("-")
    made: dict[str, Callable[[], dict[str, Any]]] = {
        "extract": lambda: extract(0.99 if rest.endswith("ours") else 0.95),
        "precision": precision,
        "start": start,
        "graph": graph,
        "serve": serve,
        "flood": flood,
        "edge": edge,
        "browser": lambda: browser() | AGREES,
        "node": lambda: {"seconds": 9.0} | AGREES,
        "mutants": mutants,
        "install": lambda: install(1.0 if rest.startswith("ours") else 10.0),
    }
    return made[kind]()


AGREES = {"images": 50, "unlike": 0, "score_difference": 1e-6}


def spread(median: float) -> dict[str, Any]:
    return {"median": median, "low": median, "high": median, "values": [median, median]}


def extract(figure: float, *, ratio: float = 0.25, seconds: float = 500.0) -> dict[str, Any]:
    cost = {"ms": 2.0, "params_m": 1.4, "size_mb": 5.7}
    costs = {"student": cost, "teacher": cost | {"ms": 8.0}, "ratio": ratio}
    values = {"figure": {"value": figure, "images": 536}, "teacher": {"value": 0.99}}
    return values | {"cost": costs, "seconds": seconds, "shape": "128 px"}


def precision(faster: float = 2.1, lost: float = 0.0) -> dict[str, Any]:
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


def start() -> dict[str, Any]:
    phases = {name: spread(100.0) for name in ("python", "import", "sums", "session", "first", "start", "whole")}
    return {"bundle_mb": 23.0, "ms": phases}


def graph() -> dict[str, Any]:
    rates = {"plain": 9.0, "bundle": 9.9, "plain again": 9.0}
    batch = {"images_per_s": rates, "ratio": spread(1.1), "control": spread(1.0)}
    return {"is_same": False, "nodes": {"plain": 550, "bundle": 500}, "batches": {"1": batch, "8": batch}}


def serve(ratio: float = 0.95) -> dict[str, Any]:
    way = {"images_per_s": {"raw": 10.0, "serve": 9.5}, "images_of_a_call": 8.0, "ratio": spread(ratio)}
    post = {"images_per_s": 9.0, "ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0}, "waits": 0}
    ways = dict.fromkeys(("alone", "joined", "together"), way)
    return {"one_core_twice": True, "ways": ways, "files": {"as they lie": {"1": post}}}


def flood() -> dict[str, Any]:
    memory = {"at_10": 100.0, "at_50": 101.0, "at_100": 101.0, "peak": 102.0, "growth_mb": 1.0, "growth_share": 0.01}
    after = {"bytes_held": 0.0, "waiting": 0.0, "right": 1, "ended_well": True}
    counts = {"requests": 10_000, "good": 9500, "right": 9500, "waits": 3, "agrees": True}
    broken = {"bad": {"noise": 500}, "refused": {"noise": 500}, "statuses": {"noise": {"400": 500}}}
    return counts | broken | {"after": after, "memory": memory}


def edge() -> dict[str, Any]:
    none = dict.fromkeys(("torn_tails", "duplicates", "missing", "torn", "other_label"), 0)
    about = {"images": 1000, "kills": 50, "kills_at_work": 40, "once": 1000, "seed": 0, "seconds": 90.0}
    return none | about | {"ended_well": True}


def browser() -> dict[str, Any]:
    times = {"first_result_ms": spread(3000.0), "ready_ms": spread(2000.0), "session_ms": 900.0}
    return times | {"image_ms": {"median_ms": 80.0}, "bytes": {"site": 37e6, "ready": 60e6}}


def mutants() -> dict[str, Any]:
    labels = ("a", "b", "c", "d", "restated", "with images", "forged", "with the pin")
    levels = {label: {"sums": 5} for label in labels} | {"restated": {"passed": 5}, "forged": {"passed": 5}}
    about = {"seed": 0, "original": "passed", "mutants": 5, "kinds": {"resize": 5}}
    return about | {"checks": ["sums", "passed"], "levels": levels}


def install(size: float) -> dict[str, Any]:
    about = {"added_mb": size, "cuda_mb": 0.0, "packages": 9, "versions": {"torch": "2"}}
    return about | {"import_ms": spread(100 * size), "bare_ms": spread(20.0)}


def iterate(name: str) -> dict[str, Any]:
    """Every promise kept."""
    kind = name.partition("-")[0]
    made: dict[str, Callable[[], dict[str, Any]]] = {
        "screening": screening,
        "fusion": fusion,
        "labelling": labelling,
        "round": round_trip,
        "increments": lambda: increments(trained="all_images" not in name),
        "hard_cases": hard_cases,
        "growth": lambda: growth(*name.split("-")[1:]),
    }
    return made[kind]()


def increments(update: float = 0.9, *, trained: bool = True) -> dict[str, Any]:
    steps = {"update": (update, 1.0), "joint": (0.9, 20.0), "probe": (0.8, 0.5), "retraining": (0.85, 50.0)}
    steps |= {"replay": (0.8, 30.0)}
    ways = {
        way: [{"accuracy": accuracy, "seconds": cost, "gflop": cost}] * (1 if way == "retraining" else 5)
        for way, (accuracy, cost) in steps.items()
        if trained or way not in ("retraining", "replay")
    }
    return {"images": [60, 140, 220, 300, 380], "ways": ways}


def hard_cases(old: float = 0.95) -> dict[str, Any]:
    sets = {"shifted_before": 0.2, "shifted_after": 0.4, "shifted_as_one_image": 0.4, "old_before": 0.95}
    run = sets | {"old_after": old, "old_as_one_image": 0.9, "cases": 20, "weight": 0.1}
    return {"shifts": {kind: [run, run] for kind in ("noise", "blur", "thermal")}}


def growth(kind: str, count: str, *, ratio: float = 0.95, own_mb: float = 1e-4) -> dict[str, Any]:
    """Linear in time; ``own_mb`` for each vector."""
    images = int(count)
    if kind == "mining":
        goals = {goal: {"seconds": images / 1000, "own_mb": own_mb * images} for goal in ("find", "learn")}
        return {"images": images, "bytes_a_vector": 4672, "peak_memory_mb": 900.0, "goals": goals}
    rates = {"images_per_s": {"ours": 30.0 * ratio, "bare": 30.0}, "ratio": ratio, "ratio_without_oddity": 0.97}
    return rates | {"images": images, "seconds": images / 30, "peak_memory_mb": {"before": 500.0, "after": 600.0}}


def screening(*times: float) -> dict[str, Any]:
    """Of every draw, how many times fewer looks."""
    values = list(times or (12.0, 12.0))
    mean = sum(values) / len(values)
    told = {"mean": mean, "low": mean, "high": mean, "n": len(values), "median": mean, "values": values}
    size = {name: {"values": [number] * len(values)} for name, number in (("pool", 100), ("rare", 5))}
    part = size | {
        "ceiling": told,
        "draws": len(values),
        "speed_up": {order: {"0.8": told, "0.95": told} for order in ORDERS},
    }
    return {"images": 100, "prevalences": {f"{prevalence:g}": part for prevalence in PREVALENCES}}


def fusion(fused: float = 0.91, weighted: float | None = 0.905) -> dict[str, Any]:
    one = {"fused": fused, "ensemble": 0.9, "weighted": weighted, "singles": {"a": 0.5, "b": 0.6}, "best_single": "b"}
    ways = {way: one | {"cost_ratio": {"gflop": 0.33, "ms": 0.36, "params": 0.33}} for way in WAYS}
    return {"labelled": ways, "unlabelled": {"graph": ways["graph"]}}


def labelling(ours: float | None = 5000.0) -> dict[str, Any]:
    seconds = {"all": 36000.0, "random": 30000.0, "active": 10000.0, "ours": ours}
    others = ("all", "random", "active")
    saved = {way: 1 - ours / seconds[way] for way in others} if ours else {}
    own = {"stopped": "the fronts have met", "seconds": 8000.0, "accuracy_with_machine_labels": 0.98}
    asked = own if ours else own | {"stopped": None}
    return {"target": 0.97, "prices": {price: {"seconds": seconds, "saved": saved, "ours": asked} for price in PRICES}}


def round_trip(lost: int = 0) -> dict[str, Any]:
    about = {"images": 1000, "boxes": 2500, "seconds": {"out": 60.0, "back": 9.0}, "lost_or_changed": {"boxes": lost}}
    about["peak_memory"] = {"before_mb": 300.0, "back_mb": 340.0}
    return about | {"edits": {"made": 60, "came_back": 60, "others_changed": 0}}
