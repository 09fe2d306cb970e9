"""RESULTS.md, part G: what a few labels give, task by task."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks.few_shot_classification import AUTO_BESIDE, BASELINE, FOUR_VIEWS, WAYS, learns_from_others
from benchmarks.few_shot_long_tail import ARMS, HEAD, TAIL
from benchmarks.few_shot_segmentation import METHODS
from benchmarks.markdown import NOT_RUN, Promise, Results, mean_points, points, table, verdict
from benchmarks.plan import TABLES
from benchmarks.plan_few_shot import (
    BOXED_SHOTS,
    DETECTION,
    SEEDS,
    SEGMENTATION,
    TAIL_SEEDS,
    detect_name,
    segment_name,
    tail_name,
    way_name,
)
from pangu_cv.metrics import Interval, mean_interval, paired_gain

_PLAIN = "cross-entropy, flips"
_SECONDS = 60.0
Gain = Callable[[Any], float]


def promises(results: Results) -> list[Promise]:
    """Ways, detection, segmentation, long tail."""
    return [*_way_promises(results), *_detect_promises(results), *_segment_promises(results), *_tail_promises(results)]


def _way_values(results: Results, way: str) -> list[float] | None:
    """Mean over the six tables, draw by draw; None where one of them is not run."""
    found = [results.get(way_name(name, way)) for name in TABLES]
    if any(one is None for one in found):
        return None
    return [float(value) for value in np.mean([one["accuracy"] for one in found if one], axis=0)]


def _way_promises(results: Results) -> list[Promise]:
    gain_text = (
        "Classification, 5 shots, six tables: the best way here against the closed form on frozen features, mean"
    )
    auto_text = "The same: `auto` against the best single way that sees the same images and decides on one view"
    time_text = "The same: longest fit of the best way, a draw"
    plain = _way_values(results, BASELINE)
    singles = {
        way: values for way in WAYS if not way.startswith("auto") and (values := _way_values(results, way)) is not None
    }
    beside = _way_values(results, AUTO_BESIDE)
    auto = beside or _way_values(results, "auto")
    found = [Promise(gain_text, "≥ 2 points"), Promise(auto_text, "≥ -1 point"), Promise(time_text, "≤ 60 s")]
    if plain is None or len(singles) < 2:
        return found
    best = max((way for way in singles if way != BASELINE), key=lambda way: float(np.mean(singles[way])))
    gain = paired_gain(singles[best], plain)
    found[0] = Promise(gain_text, "≥ 2 points", f"{points(gain, sign=True)} ({best})", gain.mean >= 0.02)
    seconds = max(max(results[way_name(name, best)]["fit_seconds"]) for name in TABLES)
    found[2] = Promise(time_text, "≤ 60 s", f"{seconds:.0f} s ({best})", seconds <= _SECONDS)
    if auto is not None:
        same = [way for way in singles if way != FOUR_VIEWS and (beside or not learns_from_others(way))]
        top = max(same, key=lambda way: float(np.mean(singles[way])))
        loss = paired_gain(auto, singles[top])
        rivals = [way for way in WAYS if not way.startswith("auto") and way != FOUR_VIEWS]
        known = [way for way in rivals if way in singles]
        told = f"{points(loss, sign=True)} ({top}), {len(known)} of {len(rivals)} ways"
        reached = verdict(loss.mean >= -0.01, is_whole=known == rivals)
        found[1] = Promise(auto_text, "≥ -1 point", told, reached)
    return found


def _detect_promises(results: Results) -> list[Promise]:
    gains: dict[str, Gain] = {
        "AP50": lambda one: one["ours"]["ap50"] - one["fcos"]["ap50"],
        "AP": lambda one: one["ours"]["ap"] - one["fcos"]["ap"],
    }
    promised = []
    for name in DETECTION:
        text = f"Detection, {name}: AP50 and AP ahead of FCOS in the same time, 10 and 30 images a class"
        runs = {f"{shots} images": _runs(results, partial(detect_name, name, shots)) for shots in BOXED_SHOTS}
        promised.append(_ahead(text, "ahead at both", runs, gains))
    return promised


def _segment_promises(results: Results) -> list[Promise]:
    gains: dict[str, Gain] = {
        "linear head": lambda one: one["methods"]["ours"]["f1"] - one["methods"]["linear head"]["f1"],
        "U-Net": lambda one: one["methods"]["ours"]["f1"] - one["methods"]["U-Net"]["f1"],
    }
    promised = []
    for name in SEGMENTATION:
        text = f"Segmentation, {name}: F1 ahead of a linear head and of a U-Net in the same time, 5 masks and all"
        runs = {f"{shots or 'all'} masks": _runs(results, partial(segment_name, name, shots)) for shots in (5, None)}
        promised.append(_ahead(text, "ahead of both", runs, gains))
    return promised


def _runs(results: Results, name_of_seed: Callable[[int], str]) -> list[Any]:
    return [one for seed in SEEDS if (one := results.get(name_of_seed(seed)))]


def _ahead(text: str, target: str, runs: Mapping[str, list[Any]], gains: Mapping[str, Gain]) -> Promise:
    """Each number of labels is judged apart: a win with few must not hide a loss with many."""
    told, means = [], []
    for labels, found in runs.items():
        if found:
            gained = {what: float(np.mean([gain(one) for one in found])) for what, gain in gains.items()}
            means += gained.values()
            words = ", ".join(f"{what} {100 * mean:+.1f}" for what, mean in gained.items())
            told.append(f"{labels}: {words} ({len(found)} of {len(SEEDS)} draws)")
    if not told:
        return Promise(text, target)
    is_whole = all(len(found) == len(SEEDS) for found in runs.values())
    return Promise(text, target, "; ".join(told), verdict(min(means) > 0, is_whole=is_whole))


def _tail_promises(results: Results) -> list[Promise]:
    tail_text = "Long tail of 100 to 1: best combination over cross-entropy with flips, classes of 10 images or fewer"
    head_text = "The same: classes of 40 images or more"
    gains = {arm: _tail_gains(results, arm) for arm in ARMS if arm != _PLAIN}
    known = {arm: gain for arm, gain in gains.items() if gain is not None}
    if not known:
        return [Promise(tail_text, "≥ 6 points"), Promise(head_text, "≥ -1 point")]
    best = max(known, key=lambda arm: known[arm]["tail"].mean)
    tail, head = known[best]["tail"], known[best]["head"]
    is_whole = len(known) == len(gains) and all(gain["tail"].n == len(TAIL_SEEDS) for gain in known.values())
    beside = f"{best}, the best of {len(known)} on these images; {tail.n} of {len(TAIL_SEEDS)} seeds"
    told = f"{points(tail, sign=True)} ({beside})"
    return [
        Promise(tail_text, "≥ 6 points", told, verdict(tail.mean >= 0.06, is_whole=is_whole)),
        Promise(head_text, "≥ -1 point", points(head, sign=True), verdict(head.mean >= -0.01, is_whole=is_whole)),
    ]


def _tail_gains(results: Results, arm: str) -> dict[str, Interval] | None:
    """Paired gains over the plain arm of tail and head classes, seed by seed."""
    pairs = [(results.get(tail_name(arm, seed)), results.get(tail_name(_PLAIN, seed))) for seed in TAIL_SEEDS]
    both = [(one, plain) for one, plain in pairs if one and plain]
    if not both:
        return None
    return {
        part: mean_interval([_recall(one, part) - _recall(plain, part) for one, plain in both])
        for part in ("tail", "head")
    }


def _recall(found: Any, part: str) -> float:
    """Mean recall of the classes of the tail or of the head."""
    counts = found["images"].items()
    names = [name for name, count in counts if (count <= TAIL if part == "tail" else count >= HEAD)]
    return float(np.mean([found["recall"][name] for name in names]))


def section(results: Results) -> list[str]:
    """The whole part."""
    return ["## G. Few labels", "", *_ways(results), *_detection(results), *_segmentation(results), *_tails(results)]


def _ways(results: Results) -> list[str]:
    rows = []
    for way in WAYS:
        found = {name: results.get(way_name(name, way)) for name in TABLES}
        cells = [NOT_RUN if one is None else f"{100 * np.mean(one['accuracy']):.1f}" for one in found.values()]
        mean = _way_values(results, way)
        runs = [one for one in found.values() if one]
        seconds = f"{np.median([s for one in runs for s in one['fit_seconds']]):.0f}" if runs else NOT_RUN
        rows.append([way, *cells, points(mean_interval(mean)) if mean else NOT_RUN, seconds])
    note = (
        "ViT-Tiny, 5 labels a class, 5 draws: balanced accuracy on the test images in %, the mean with its interval "
        "over draws, and the median seconds of a fit (two cores). *Unlabelled*: the training images "
        "that were not drawn teach too, without their labels; their features are paid for by the first draw. "
        "*Four views*: the model decides on four views of an image too, at four times the arithmetic at the line:"
    )
    return [note, "", *table(["way", *TABLES, "mean of 6", "s"], rows)]


def _detection(results: Results) -> list[str]:
    rows = []
    for name, shots in [*((name, shots) for name in DETECTION for shots in BOXED_SHOTS), ("cplid", None)]:
        found = _runs(results, partial(detect_name, name, shots))
        label = f"{name}, {'all images' if shots is None else f'{shots} images a class'}"
        if not found:
            rows.append([label, "0", *[NOT_RUN] * 6])
            continue
        figures = [mean_points([one[who][key] for one in found]) for key in ("ap50", "ap") for who in ("ours", "fcos")]
        steps = " / ".join(f"{np.mean([one['steps'][who] for one in found]):.0f}" for who in ("ours", "fcos"))
        rows.append([label, str(len(found)), *figures, steps, f"{np.mean([one['seconds'] for one in found]):.0f}"])
    note = (
        "Detection, test images evenly spread, AP in %; FCOS trained for as many seconds on the same images. It "
        "trains all of the network, ours a head on kept features: the steps that each of them made tell how far from "
        "learnt FCOS is, and the gain is one of time, not of what FCOS reaches in the end:"
    )
    heads = ["set", "draws", "AP50 ours", "AP50 FCOS", "AP ours", "AP FCOS", "steps, ours / FCOS", "s"]
    return [note, "", *table(heads, rows)]


def _segmentation(results: Results) -> list[str]:
    rows = []
    for name in SEGMENTATION:
        for shots in (5, None):
            found = _runs(results, partial(segment_name, name, shots))
            label = f"{name}, {shots or 'all'} masks"
            if not found:
                rows.append([label, "0", *[NOT_RUN] * 4])
                continue
            figures = [mean_points([one["methods"][m]["f1"] for one in found]) for m in METHODS]
            rows.append([label, str(len(found)), *figures, f"{np.mean([one['seconds'] for one in found]):.0f}"])
    note = "Segmentation, F1 of crack pixels in %; the others trained for as many seconds on the same masks:"
    return [note, "", *table(["set", "draws", *METHODS, "s"], rows)]


def _tails(results: Results) -> list[str]:
    rows = []
    for arm in ARMS:
        found = [one for seed in TAIL_SEEDS if (one := results.get(tail_name(arm, seed)))]
        if not found:
            rows.append([arm, "0", *[NOT_RUN] * 5])
            continue
        figures = [mean_points([_recall(one, part) for one in found]) for part in ("tail", "head")]
        balanced = mean_points([one["balanced"] for one in found])
        gains = _tail_gains(results, arm)
        told = [points(gains[part], sign=True) if gains else "–" for part in ("tail", "head")]
        rows.append([arm, str(len(found)), *figures, balanced, *told])
    note = (
        f"Long tail: 13 classes of xsdd and neu_det, 100 images to 1; recall in % of classes with at most {TAIL} "
        f"images (tail) and at least {HEAD} (head), and the gain over plain cross-entropy with flips in points. "
        "Training goes on from the closed form; a *balanced start* is as `finetune` takes it and raises small classes:"
    )
    heads = ["arm", "seeds", "tail", "head", "all classes", "gain, tail", "gain, head"]
    return [note, "", *table(heads, rows)]
