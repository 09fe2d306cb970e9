"""RESULTS.md, part I: how soon a bundle decides, its graph, and the server under load."""

from collections.abc import Mapping
from typing import Any

from benchmarks.deploy_flood import BAD_SHARE, CLIENTS, MAX_BODY_MB, MAX_MEGAPIXELS
from benchmarks.deploy_serve import WAYS
from benchmarks.deploy_start import PHASES
from benchmarks.deploy_subjects import SUBJECTS
from benchmarks.markdown import NOT_RUN, Promise, Results, table
from benchmarks.plan_deploy import (
    FLOOD,
    FLOOD_MODEL,
    FULL_MODELS,
    MODELS,
    flood_name,
    graph_name,
    serve_name,
    start_name,
)

START_S = 1.0
NOT_SLOWER = 0.98  # what the same graph shows against itself in one run
SHARE_OF_RAW = 0.9
FLAT = 0.05
_SHOWN_PHASES = {"python": "Python", "import": "import", "sums": "sums", "session": "session", "first": "first image"}


def promises(results: Results) -> list[Promise]:
    """Graph, start, server, flood."""
    served = [_serve_promise(results, model) for model in MODELS]
    return [_graph_promise(results), _start_promise(results), *served, *_flood_promises(results)]


def _graph_promise(results: Results) -> Promise:
    text = "Graph of the bundle against a plain export, images/s, slowest of models and batches"
    target = f"never slower (≥ {NOT_SLOWER})"
    found = {model: one for model in FULL_MODELS if (one := results.get(graph_name(model)))}
    if not found:
        return Promise(text, target)
    ratios = [batch["ratio"]["median"] for one in found.values() for batch in one["batches"].values()]
    same = "; the same graph so far" if all(one["is_same"] for one in found.values()) else ""
    reached = min(ratios) >= NOT_SLOWER if set(MODELS) <= set(found) or min(ratios) < NOT_SLOWER else None
    return Promise(text, target, f"{min(ratios):.2f} ({len(found)} models{same})", reached)


def _start_promise(results: Results) -> Promise:
    text, target = "ViT-Tiny in a fresh process: sums, session and first image, median", f"≤ {START_S:g} s"
    one = results.get(start_name("vit_tiny"))
    if one is None:
        return Promise(text, target)
    seconds, whole = one["ms"]["start"]["median"] / 1e3, one["ms"]["whole"]["median"] / 1e3
    told = f"{seconds:.2f} s (with Python and imports {whole:.2f} s)"
    return Promise(text, target, told, seconds <= START_S)


def _serve_promise(results: Results, model: str) -> Promise:
    label = SUBJECTS[model].label
    text = f"Server on one core against ONNX Runtime alone on it, same batch, raw tensors, {label}: worst of three ways"
    one = results.get(serve_name(model))
    if one is None:
        return Promise(text, f"≥ {SHARE_OF_RAW}")
    ratios = {name: way["ratio"]["median"] for name, way in one["ways"].items()}
    worst = min(ratios, key=lambda name: ratios[name])
    told = f"{ratios[worst]:.2f} ({WAYS[worst].label})"
    return Promise(text, f"≥ {SHARE_OF_RAW}", told, ratios[worst] >= SHARE_OF_RAW)


def _flood_promises(results: Results) -> list[Promise]:
    head = f"{FLOOD:,} requests from {CLIENTS} clients, {100 * BAD_SHARE:.0f} % broken"
    good = Promise(f"{head}: good ones answered right", "all")
    bad = Promise("The same: broken ones refused", "all")
    flat = Promise("The same: memory from the 10 % mark to the end", f"≤ +{100 * FLAT:.0f} %")
    one = results.get(flood_name(FLOOD_MODEL))
    if one is None:
        return [good, bad, flat]
    is_whole = one["requests"] == FLOOD  # a quick run proves nothing
    refused, broken = sum(one["refused"].values()), sum(one["bad"].values())
    is_well = one["agrees"] and one["after"]["ended_well"] and not one["after"]["bytes_held"]
    growth = one["memory"]["growth_share"]
    told = f"{one['memory']['growth_mb']:+.1f} MB ({100 * growth:+.1f} %)"
    all_right = one["right"] == one["good"] and one["after"]["right"] == 1
    return [
        Promise(good.text, "all", f"{one['right']} of {one['good']}", all_right if is_whole else None),
        Promise(bad.text, "all", f"{refused} of {broken}", (refused == broken and is_well) if is_whole else None),
        Promise(flat.text, flat.target, told, growth <= FLAT if is_whole else None),
    ]


def section(results: Results) -> list[str]:
    """The whole part."""
    head = "## I. Deployment: start, graph, server"
    return [head, "", *_starts(results), *_graphs(results), *_ways(results), *_files(results), *_floods(results)]


def _starts(results: Results) -> list[str]:
    rows = []
    for model in FULL_MODELS:
        one = results.get(start_name(model))
        if one is None:
            rows.append([SUBJECTS[model].label, *[NOT_RUN] * (len(PHASES) + 3)])
            continue
        ms = one["ms"]
        times = [f"{ms[name]['median']:.0f}" for name in (*PHASES, "start", "whole")]
        rows.append([SUBJECTS[model].label, f"{one['bundle_mb']:.0f}", *times])
    heads = ["model", "MB", *_SHOWN_PHASES.values(), "sums to first", "whole"]
    note = "Fresh processes of the torch-free runtime, median ms of each phase; files are in the system's cache:"
    return [note, "", *table(heads, rows)]


def _graphs(results: Results) -> list[str]:
    rows = []
    for model in FULL_MODELS:
        one = results.get(graph_name(model))
        if one is None:
            rows.append([SUBJECTS[model].label, *[NOT_RUN] * 5])
            continue
        for batch, found in one["batches"].items():
            nodes = f"{one['nodes']['plain']} → {one['nodes']['bundle']}"
            rates = [f"{found['images_per_s'][side]:.1f}" for side in ("plain", "bundle")]
            ratios = [_quartiles(found[key]) for key in ("ratio", "control")]
            rows.append([f"{SUBJECTS[model].label}, batch {batch}", nodes, *rates, *ratios])
    note = (
        "The bundle's graph and the exporter's own, in turn in one process on all cores: images/s, and the ratio "
        "with its quartiles over the turns; last the exporter's graph against itself, which shows what chance does."
    )
    return [note, "", *table(["model", "nodes", "plain", "bundle", "ratio", "control"], rows)]


def _quartiles(found: Mapping[str, Any]) -> str:
    return f"{found['median']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _ways(results: Results) -> list[str]:
    rows, shared = [], ""
    for model in MODELS:
        one = results.get(serve_name(model))
        if one and one["one_core_twice"]:
            shared = " **The two cores are threads of one processor core here: the clients slow the server.**"
        for name, way in WAYS.items():
            label = f"{SUBJECTS[model].label}, {way.label}"
            if one is None:
                rows.append([label, str(way.clients), *[NOT_RUN] * 4])
                continue
            found = one["ways"][name]
            rates = [f"{found['images_per_s'][side]:.1f}" for side in ("raw", "serve")]
            calls = f"{found['images_of_a_call']:.1f}"
            rows.append([label, str(way.clients), *rates, calls, _quartiles(found["ratio"])])
    note = (
        "`pangu-cv serve` on one core, its clients on the other, fed with binary tensors (Open Inference Protocol "
        "v2) of test images; ONNX Runtime alone, one thread, on the server's core, in turn with it while the "
        f"clients rest.{shared} Images/s, images of a call of the server's graph as it counted them, and the ratio "
        "with its quartiles over the turns:"
    )
    return [note, "", *table(["model, way", "clients", "alone", "server", "a call", "ratio"], rows)]


def _files(results: Results) -> list[str]:
    rows = []
    for model in MODELS:
        one = results.get(serve_name(model))
        if one is None:
            rows.append([SUBJECTS[model].label, *[NOT_RUN] * 6])
            continue
        for name, by_clients in one["files"].items():
            for clients, found in by_clients.items():
                label = f"{SUBJECTS[model].label}, {name}"
                times = [f"{found['ms'][key]:.0f}" for key in ("p50", "p95", "p99")]
                rows.append([label, clients, f"{found['images_per_s']:.1f}", *times, str(found["waits"])])
    note = (
        "The same server and image files by POST (the set's own, 128 x 128 pixels, or a camera's): images/s, "
        'milliseconds of a request as its client sees them, and how often the server said "later" (429), which the '
        "client then did:"
    )
    return [note, "", *table(["model, files", "clients", "images/s", "p50", "p95", "p99", "later"], rows)]


def _floods(results: Results) -> list[str]:
    rows, kinds = [], []
    for model in MODELS:
        one = results.get(flood_name(model))
        if one is None:
            rows.append([SUBJECTS[model].label, *[NOT_RUN] * 7])
            continue
        refused, memory = sum(one["refused"].values()), one["memory"]
        held = [f"{memory[key]:.1f}" for key in ("at_10", "at_50", "at_100", "peak")]
        counts = [f"{one['right']} of {one['good']}", f"{refused} of {sum(one['bad'].values())}", str(one["waits"])]
        rows.append([f"{SUBJECTS[model].label}, {one['requests']}", *counts, *held])
        kinds = kinds or [_kind(kind, codes) for kind, codes in sorted(one["statuses"].items())]
    told = f"Answers to the broken ones: {'; '.join(kinds)} (0: the line was cut). " if kinds else ""
    note = (
        f"{CLIENTS} clients at once; image files of four sizes as JPEG and PNG, a quarter raw tensors; bodies of "
        f"more than {MAX_BODY_MB} MiB and pictures of more than {MAX_MEGAPIXELS} megapixels are refused. Right is "
        "the label of the Predictor in another process, scores within 1e-3. Broken in equal numbers: corrupt (noise, "
        "torn files, changed bytes, tensors of another size), too large (sent, in chunks, announced, a small file of "
        f"a huge picture), cut off (files, tensors, after the head). {told}Resident memory in MB by requests done:"
    )
    heads = ["model, requests", "right", "refused", "later", "at 10 %", "at 50 %", "at the end", "most"]
    return [note, "", *table(heads, rows)]


def _kind(kind: str, codes: Mapping[str, int]) -> str:
    return f"{kind} {', '.join(f'{code} ({count})' for code, count in sorted(codes.items()))}"
