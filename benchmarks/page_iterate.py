"""RESULTS.md, part L: screening, fusion, the round trip through FiftyOne."""

import math
from typing import Any

from benchmarks.iterate_labelling import PATIENCE, PRICES
from benchmarks.iterate_screening import ORDERS, PREVALENCES, RECALLS, SETS
from benchmarks.markdown import NOT_RUN, Promise, Results, from_json, mean_points, points, table, verdict
from benchmarks.plan_iterate import FUSIONS, LABELLINGS, fusion_name, labelling_name, screening_name
from pangu_cv.metrics.interval import mean_interval

QUICKER = 10.0
SAVED = 0.75
PAPER = next(iter(PRICES))
_RARE = ("0.01", "0.02")
ENSEMBLES = {"ensemble": "their mean", "weighted": "their mean weighed by the same labels"}
WAYS = ("graph", "plain distillation", "uniform soup", "greedy soup", "ties")


def promises(results: Results) -> list[Promise]:
    """Screening, fusion, round trip."""
    return [
        *_screening_promises(results),
        *_labelling_promises(results),
        _fusion_promise(results),
        _round_trip_promise(results),
    ]


def _screening_promises(results: Results) -> list[Promise]:
    found = []
    for recall in RECALLS:
        text = f"Looks until {recall:.0%} of the rare images are found, prevalence 1 and 2 %, against random order"
        told, fewer = [], []
        for name in SETS:
            if one := results.get(screening_name(name)):
                ups = [_fewer(one["prevalences"][p], ORDERS[0], recall) for p in _RARE]
                fewer += ups
                told.append(f"{name} {' and '.join(f'{up:.1f}' for up in ups)}")
        target = f"≥ {QUICKER:g} times fewer, every set"
        reached = verdict(min(fewer) >= QUICKER, is_whole=len(told) == len(SETS)) if fewer else None
        found.append(Promise(text, target, ", ".join(told) or NOT_RUN, reached))
    return found


def _fewer(part: Any, order: str, recall: float) -> float:
    """All looks of random order by all of this one: a few quick draws do not make up for slow ones, as in a mean of
    ratios they do."""
    ups, pools, rares = part["speed_up"][order][f"{recall:g}"]["values"], part["pool"]["values"], part["rare"]["values"]
    random = [math.ceil(recall * rare) * (pool + 1) / (rare + 1) for pool, rare in zip(pools, rares, strict=True)]
    return sum(random) / sum(looks / up for looks, up in zip(random, ups, strict=True))


def _labelling_promises(results: Results) -> list[Promise]:
    found = []
    for beside, words, least in (("all", "naming every image", SAVED), ("active", "active full labels", 0.0)):
        text = f"Human seconds to full-label accuracy less a point, 60 s a label, 2.7 s a bit, saved against {words}"
        runs = [one["prices"][PAPER]["saved"].get(beside) for one in _labellings(results)]
        target = f"≥ {SAVED:.0%}" if least else "ahead"
        if not runs:
            found.append(Promise(text, target))
            continue
        ended = [run for run in runs if run is not None]
        told = f"{len(runs) - len(ended)} of {len(runs)} runs did not get there"
        mean = mean_interval(ended) if ended else None
        if mean is not None:
            told = f"{mean_points(ended)} %, {len(ended)} of {len(runs)} seeds"
        is_reached = mean is not None and len(ended) == len(runs) and mean.mean >= least
        found.append(Promise(text, target, told, verdict(is_reached, is_whole=len(runs) == len(LABELLINGS))))
    return found


def _labellings(results: Results) -> list[Any]:
    return [run for seed in LABELLINGS if (run := results.get(labelling_name(seed)))]


def _labelling(results: Results) -> list[str]:
    note = (
        "### Human seconds\n\nHours of a simulated person, 2 % of whose answers are wrong, until the test accuracy of "
        "all labels less a point, which the benchmark knows and the person does not: mean over seeds, each of which "
        "draws pool and test images anew. A dash: not reached in any. *To its own stop*: until nothing more is asked, "
        f"within {PATIENCE:g} times those hours, and the accuracy there against the target, in points, with the "
        "machine's labels learnt too."
    )
    rows = []
    for price in PRICES:
        for way in ("all", "random", "active", "ours"):
            values = [one["prices"][price]["seconds"][way] for one in _labellings(results)]
            ended = [value / 3600 for value in values if value]
            shown = f"{sum(ended) / len(ended):.1f} h" if ended else "–"
            rows.append([f"{way}, {price}", shown if values else NOT_RUN, f"{len(ended)} of {len(values)}", ""])
        rows.append(_own_stop(results, price))
    return [note, "", *table(["way, a label and a bit", "hours", "seeds that got there", "beside the target"], rows)]


def _own_stop(results: Results, price: str) -> list[str]:
    runs = _labellings(results)
    stops = [(one["prices"][price]["ours"], one["target"]) for one in runs]
    ended = [(ours, target) for ours, target in stops if ours["stopped"]]
    label = f"ours to its own stop, {price}"
    if not ended:
        return [label, "–" if runs else NOT_RUN, f"0 of {len(runs)}", ""]
    hours = sum(ours["seconds"] for ours, _ in ended) / len(ended) / 3600
    beside = mean_points([ours["accuracy_with_machine_labels"] - target for ours, target in ended], sign=True)
    return [label, f"{hours:.1f} h", f"{len(ended)} of {len(runs)}", beside]


def _fusion_promise(results: Results) -> Promise:
    text = "Three plants with overlapping classes made one model: balanced accuracy beside their ensemble"
    target = "within 1 point, at a third of the cost"
    runs = _fusions(results)
    if not runs:
        return Promise(text, target)
    graphs = [run["labelled"]["graph"] for run in runs]
    gains = {kind: mean_interval([one["fused"] - one[kind] for one in graphs]) for kind in ENSEMBLES}
    cost = max(one["cost_ratio"]["gflop"] for one in graphs)
    told = "; ".join(f"{points(gain, sign=True)} points to {ENSEMBLES[kind]}" for kind, gain in gains.items())
    is_near = min(gain.mean for gain in gains.values()) >= -0.01 and cost <= 0.34
    reached = verdict(is_near, is_whole=len(runs) == len(FUSIONS))
    return Promise(text, target, f"{told}; {cost:.2f} of the arithmetic, {len(runs)} seeds", reached)


def _round_trip_promise(results: Results) -> Promise:
    text = "1,000 images with boxes, masks, heat maps and embeddings to FiftyOne and back: values lost or changed"
    one = results.get("round-trip-1000")
    if one is None:
        return Promise(text, "0")
    wrong = sum(one["lost_or_changed"].values())
    return Promise(text, "0", f"{wrong} of {one['images']} images", wrong == 0 if one["images"] == 1000 else None)


def section(results: Results) -> list[str]:
    """The whole part."""
    return ["## L. The loop", "", *_screening(results), *_labelling(results), *_fusion(results), *_round_trip(results)]


def _screening(results: Results) -> list[str]:
    note = (
        "### Screening\n\nHow many times fewer images a person looks at than in random order, until 80 % and 95 % "
        "of the rare ones are found, ten at a time: all looks of random order by all looks of this one, and in "
        "brackets the mean over draws of that ratio with its 95 % interval, and the median. Ceiling: images by rare "
        "images. In xsdd and neu_det each class is the rare one in turn, in magnetic_tile all defects. Where only "
        "four are rare, 80 and 95 % are both all of them."
    )
    rows = []
    for name in SETS:
        one = results.get(screening_name(name))
        for prevalence in PREVALENCES if one else ():
            part = one["prevalences"][f"{prevalence:g}"] if one else {}
            for order in ORDERS:
                cells = [_times(part, order, recall) for recall in RECALLS]
                ceiling = f"{part['ceiling']['mean']:.0f}"
                rows.append([f"{name}, {prevalence:.0%}", order, *cells, ceiling, str(part["draws"])])
        if one is None:
            rows.append([name, *[NOT_RUN] * 5])
    return [note, "", *table(["set, prevalence", "order", "80 %", "95 %", "ceiling", "draws"], rows)]


def _times(part: Any, order: str, recall: float) -> str:
    value = part["speed_up"][order][f"{recall:g}"]
    interval = from_json(value)
    assert interval is not None, "every order ends"
    band = f" [{interval.low:.1f}, {interval.high:.1f}]" if interval.low is not None else ""
    return f"{_fewer(part, order, recall):.1f} ({interval.mean:.1f}{band}, median {value['median']:.1f})"


def _fusions(results: Results) -> list[Any]:
    return [run for seed in FUSIONS if (run := results.get(fusion_name(seed)))]


def _best(one: Any) -> float:
    return float(one["singles"][one["best_single"]])


def _fusion(results: Results) -> list[str]:
    note = (
        "### Fusion\n\nThree plants, each with its own classes and its own way of adapting, become one model of all "
        "13 classes; balanced accuracy on test images over all classes. With and without three labelled images of each "
        "class. The ensemble is the mean of the three; *weighed* is weighed by what those labels tell of each."
    )
    runs, rows = _fusions(results), []
    for labels in ("labelled", "unlabelled"):
        for way in WAYS:
            found = [run[labels][way] for run in runs if way in run[labels]]
            if not found:
                continue
            figures = ([_best(one) for one in found], *([one[k] for one in found] for k in (*ENSEMBLES, "fused")))
            cells = ["–" if None in values else mean_points(values) for values in figures]
            ms = sum(one["cost_ratio"]["ms"] for one in found) / len(found)
            rows.append([f"{way}, {labels}", *cells, f"{ms:.2f}", str(len(found))])
    heads = ["way", "best single", "ensemble", "weighed", "fused", "ms by the ensemble's", "seeds"]
    return [note, "", *table(heads, rows or [["graph", *[NOT_RUN] * 6]])]


def _round_trip(results: Results) -> list[str]:
    one = results.get("round-trip-1000")
    head = "### Through FiftyOne and back"
    if one is None:
        return [head, "", f"1,000 images: {NOT_RUN}.", ""]
    edits, seconds = one["edits"], one["seconds"]
    return [
        head,
        "",
        f"{one['images']} images with {one['boxes']} boxes: {seconds['out']:.0f} s out, {seconds['back']:.0f} s back, "
        f"peak memory {one['peak_memory']['before_mb']:.0f} MB before, {one['peak_memory']['back_mb']:.0f} MB at the "
        "end. "
        f"Of {edits['made']} edits made there {edits['came_back']} came back, "
        f"{edits['others_changed']} other values changed.",
        "",
    ]
