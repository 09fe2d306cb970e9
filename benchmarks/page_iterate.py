"""RESULTS.md, part L: screening, fusion, the round trip through FiftyOne."""

from typing import Any

from benchmarks.iterate_labelling import PRICES
from benchmarks.iterate_screening import ORDERS, PREVALENCES, RECALLS, SETS
from benchmarks.markdown import NOT_RUN, Promise, Results, from_json, points, table
from benchmarks.plan_iterate import FUSIONS, LABELLINGS, fusion_name, labelling_name, screening_name
from pangu_cv.metrics.interval import mean_interval

QUICKER = 10.0
SAVED = 0.75
PAPER = next(iter(PRICES))
_RARE = ("0.01", "0.02")
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
        told, means = [], []
        for name in SETS:
            if one := results.get(screening_name(name)):
                ups = [one["prevalences"][p]["speed_up"][ORDERS[0]][f"{recall:g}"]["mean"] for p in _RARE]
                means += ups
                told.append(f"{name} {' and '.join(f'{up:.1f}' for up in ups)}")
        is_whole = len(told) == len(SETS)
        reached = min(means) >= QUICKER if is_whole or (means and min(means) < QUICKER) else None
        target = f"≥ {QUICKER:g} times fewer, every set"
        found.append(Promise(text, target, ", ".join(told) or NOT_RUN, reached))
    return found


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
            told = f"{points(mean)} %, {len(ended)} of {len(runs)} seeds"
        is_reached = mean is not None and len(ended) == len(runs) and mean.mean >= least
        found.append(
            Promise(text, target, told, is_reached if len(runs) == len(LABELLINGS) or not is_reached else None)
        )
    return found


def _labellings(results: Results) -> list[Any]:
    return [run for seed in LABELLINGS if (run := results.get(labelling_name(seed)))]


def _labelling(results: Results) -> list[str]:
    note = (
        "### Human seconds\n\nHours of a simulated person, 2 % of whose answers are wrong, until the test accuracy of "
        "all labels less a point: mean over seeds. A dash: not reached in any."
    )
    rows = []
    for price in PRICES:
        for way in ("all", "random", "active", "ours"):
            values = [one["prices"][price]["seconds"][way] for one in _labellings(results)]
            ended = [value / 3600 for value in values if value]
            shown = f"{sum(ended) / len(ended):.1f} h" if ended else "–"
            rows.append([f"{way}, {price}", shown if values else NOT_RUN, f"{len(ended)} of {len(values)}"])
    return [note, "", *table(["way, a label and a bit", "hours", "seeds that got there"], rows)]


def _fusion_promise(results: Results) -> Promise:
    text = "Three plants with overlapping classes made one model: balanced accuracy beside their ensemble"
    target = "within 1 point, at a third of the cost"
    runs = _fusions(results)
    if not runs:
        return Promise(text, target)
    graphs = [run["labelled"]["graph"] for run in runs]
    gains = mean_interval([one["fused"] - one["ensemble"] for one in graphs])
    cost = max(one["cost_ratio"]["gflop"] for one in graphs)
    reached = gains.mean >= -0.01 and cost <= 0.34 if len(runs) == len(FUSIONS) else None
    return Promise(
        text, target, f"{points(gains, sign=True)} points, {cost:.2f} of the arithmetic, {len(runs)} seeds", reached
    )


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
        "of the rare ones are found, ten at a time: mean over draws with its 95 % interval, and the median. Ceiling: "
        "images by rare images. In xsdd and neu_det each class is the rare one in turn, in magnetic_tile all defects."
    )
    rows = []
    for name in SETS:
        one = results.get(screening_name(name))
        for prevalence in PREVALENCES if one else ():
            part = one["prevalences"][f"{prevalence:g}"] if one else {}
            for order in ORDERS:
                cells = [_times(part["speed_up"][order][f"{recall:g}"]) for recall in RECALLS]
                ceiling = f"{part['ceiling']['mean']:.0f}"
                rows.append([f"{name}, {prevalence:.0%}", order, *cells, ceiling, str(part["draws"])])
        if one is None:
            rows.append([name, *[NOT_RUN] * 5])
    return [note, "", *table(["set, prevalence", "order", "80 %", "95 %", "ceiling", "draws"], rows)]


def _times(value: dict[str, Any]) -> str:
    interval = from_json(value)
    assert interval is not None, "every order ends"
    band = f" [{interval.low:.1f}, {interval.high:.1f}]" if interval.low is not None else ""
    return f"{interval.mean:.1f}{band}, median {value['median']:.1f}"


def _fusions(results: Results) -> list[Any]:
    return [run for seed in FUSIONS if (run := results.get(fusion_name(seed)))]


def _best(one: Any) -> float:
    return float(one["singles"][one["best_single"]])


def _fusion(results: Results) -> list[str]:
    note = (
        "### Fusion\n\nThree plants, each with its own classes and its own way of adapting, become one model of all "
        "13 classes; balanced accuracy on test images over all classes. With and without three labelled images of each "
        "class."
    )
    runs, rows = _fusions(results), []
    for labels in ("labelled", "unlabelled"):
        for way in WAYS:
            found = [run[labels][way] for run in runs if way in run[labels]]
            if not found:
                continue
            figures = ([_best(one) for one in found], *([one[kind] for one in found] for kind in ("ensemble", "fused")))
            cells = [points(mean_interval(values)) for values in figures]
            rows.append([f"{way}, {labels}", *cells, str(len(found))])
    heads = ["way", "best single", "ensemble", "fused", "seeds"]
    return [note, "", *table(heads, rows or [["graph", *[NOT_RUN] * 4]])]


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
