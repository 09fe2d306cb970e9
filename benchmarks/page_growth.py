"""RESULTS.md, part H: parity of every task of few labels, large images in tiles, growth with images and classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.few_shot_growth import CLASSES, IMAGES, TASKS
from benchmarks.few_shot_parity import SUBJECTS
from benchmarks.markdown import NOT_RUN, Promise, Results, number, table, verdict
from benchmarks.plan_few_shot import BOXED_SHOTS, SEEDS, detect_name, growth_name, parity_name

PICTURE = "growth.svg"
_TILED = "deeppcb"
_ACROSS = 4
_KEPT = 0.95
_FLAT_BYTES_PER_PIXEL = 3 * 4  # decoding and stacking hold the image a few times; a network's features would be 100s
_STEEPEST = 1.1
_LEAST_MB = 20.0  # less is noise, and a ratio of it no growth


def promises(results: Results) -> list[Promise]:
    """Parity, tiles, growth."""
    return [_parity_promise(results), *_tile_promises(results), *_growth_promises(results)]


def _parity_promise(results: Results) -> Promise:
    text, target = "Every task exported: decisions that differ between the trained model and the bundle", "0"
    found = [one for name in SUBJECTS if (one := results.get(parity_name(name)))]
    if not found:
        return Promise(text, target)
    images, held = sum(one["images"] for one in found), all(one["holds"] for one in found)
    flips = sum(one["worst"]["flips"] for one in found if one["holds"])
    told = f"{flips} of {images} images, {len(found)} of {len(SUBJECTS)} models"
    return Promise(text, target, told, verdict(held and flips == 0, is_whole=len(found) == len(SUBJECTS)))


def _tiled(results: Results) -> dict[str, Mapping[str, Any]]:
    """By detector: how many images a class it has seen, and the draw."""
    cells = {(shots, seed): results.get(detect_name(_TILED, shots, seed)) for shots in BOXED_SHOTS for seed in SEEDS}
    found = {f"{shots} images, draw {seed}": one for (shots, seed), one in cells.items()}
    return {name: one["tiled"] for name, one in found.items() if one and one.get("tiled")}


def _at(tiled: Mapping[str, Any], across: int) -> Mapping[str, Any] | None:
    return next((size for size in tiled["sizes"] if size["across"] == across and size["ap"] is not None), None)


def _tile_promises(results: Results) -> list[Promise]:
    kept_text = f"Mosaics of {_ACROSS}×{_ACROSS} {_TILED} images through tiles: AP against the images one by one"
    flat_text = "The same: peak memory added from 2×2 to 8×8 images, per pixel more"
    kept, flat = Promise(kept_text, "≥ 95 %"), Promise(flat_text, f"≤ {_FLAT_BYTES_PER_PIXEL} bytes")
    found, many = _tiled(results).values(), len(BOXED_SHOTS) * len(SEEDS)
    ratios = [one["ap"] / tiled["ap_whole"] for tiled in found if (one := _at(tiled, _ACROSS)) and tiled["ap_whole"]]
    if ratios:
        share = float(np.mean(ratios))
        told = f"{share:.1%} ({len(ratios)} of {many} detectors)"
        kept = Promise(kept_text, "≥ 95 %", told, verdict(share >= _KEPT, is_whole=len(ratios) == many))
    added = [value for tiled in found if (value := _bytes_per_pixel(tiled)) is not None]
    if added:
        told = f"{max(added):.1f} bytes ({len(added)} of {many} detectors)"
        is_flat = max(added) <= _FLAT_BYTES_PER_PIXEL
        flat = Promise(flat_text, flat.target, told, verdict(is_flat, is_whole=len(added) == many))
    return [kept, flat]


def _bytes_per_pixel(tiled: Mapping[str, Any]) -> float | None:
    sizes = [size for size in tiled["sizes"] if size["ap"] is not None]
    if len(sizes) < 2:
        return None
    first, last = sizes[0], sizes[-1]
    grown = 1e6 * (last["peak_memory_mb"]["after"] - first["peak_memory_mb"]["after"])
    return float(grown / (last["side_px"] ** 2 - first["side_px"] ** 2))


def _growth_promises(results: Results) -> list[Promise]:
    found = []
    for kind, counts in (("images", IMAGES), ("classes", CLASSES)):
        text = f"Seconds and memory added against {kind}, {counts[0]} to {counts[-1]}: largest power of growth"
        powers = [
            power
            for task in TASKS
            for key in ("seconds", "memory")
            if (power := _power(results, kind, task, counts, key)) is not None
        ]
        promise = Promise(text, f"≤ {_STEEPEST} (1 is linear)")
        if len(powers) == 2 * len(TASKS):
            promise = Promise(text, promise.target, f"{max(powers):.2f}", max(powers) <= _STEEPEST)
        found.append(promise)
    return found


def _series(results: Results, kind: str, task: str, counts: Sequence[int]) -> list[tuple[int, float, float]]:
    """Count, seconds and what the run adds to peak memory, in MB, of the cells that were run."""
    found = [(count, results.get(growth_name(kind, task, count))) for count in counts]
    return [(count, one["seconds"], _added(one["peak_memory_mb"])) for count, one in found if one]


def _added(peak_memory_mb: Mapping[str, float]) -> float:
    """Without the code and libraries that were there before: they would make any growth look flat."""
    return max(_LEAST_MB, peak_memory_mb["after"] - peak_memory_mb["before"])


def _power(results: Results, kind: str, task: str, counts: Sequence[int], key: str) -> float | None:
    """Of the last step, where it is steepest if it is not linear: log of the ratio of values over that of counts."""
    series = _series(results, kind, task, counts)
    if len(series) < len(counts):
        return None
    (n, *before), (m, *after) = series[-2:]
    at = 0 if key == "seconds" else 1
    return float(np.log(after[at] / before[at]) / np.log(m / n))


def pictures(results: Results) -> dict[str, str]:
    """SVG drawings by file name, where there is something to draw."""
    from pangu_cv.report.plots import lines

    drawn = {
        f"{task}: {what}": ([row[0] for row in series], [row[at] for row in series])
        for task in TASKS
        for what, at in (("seconds", 1), ("memory added, MB", 2))
        if len(series := _series(results, "images", task, IMAGES)) > 1
    }
    return {PICTURE: lines(drawn, x_label="labelled images", log_y=True)} if drawn else {}


def section(results: Results) -> list[str]:
    """The whole part."""
    return ["## H. Few labels: parity, tiles, growth", "", *_parity(results), *_tiles(results), *_growth(results)]


def _parity(results: Results) -> list[str]:
    rows = []
    for name in SUBJECTS:
        one = results.get(parity_name(name))
        if one is None:
            rows.append([name, SUBJECTS[name].name, *[NOT_RUN] * 6])
        elif not one["holds"]:
            rows.append([name, one["set"], str(one["images"]), "refused", *["–"] * 4])
        else:
            worst = one["worst"]
            differences = [f"{worst[key]:.1g}" for key in ("score", "map", "mask", "box")]
            rows.append([name, one["set"], str(one["images"]), str(worst["flips"]), *differences])
    note = (
        "The trained model against its bundle on test images, decision by decision: flips, and the largest difference "
        "of a score, of a map, of a mask (1 - IoU) and of a box (1 - IoU). Limits: 0, 1e-3, 1e-3, 1e-2, 1e-2."
    )
    return [note, "", *table(["model", "set", "images", "flips", "score", "map", "mask", "box"], rows)]


def _tiles(results: Results) -> list[str]:
    rows = []
    for detector, tiled in _tiled(results).items():
        rows.append([f"{detector}, one by one", "640", str(tiled["images"]), number(tiled["ap_whole"]), "–"])
        for size in tiled["sizes"]:
            peak = f"{size['peak_memory_mb']['after']:.0f}"
            label = f"{detector}, {size['across']}×{size['across']}"
            rows.append([label, str(size["side_px"]), str(size["images"]), number(size["ap"]), peak])
    note = f"{_TILED} images side by side, cut into tiles of 640 pixels; the detectors of part G:"
    return [note, "", *table(["images", "side, px", "used", "AP", "peak MB"], rows or [["all", *[NOT_RUN] * 4]])]


def _growth(results: Results) -> list[str]:
    rows = []
    for kind, counts in (("images", IMAGES), ("classes", CLASSES)):
        for task in TASKS:
            for count in counts:
                one = results.get(growth_name(kind, task, count))
                figures = (
                    [f"{one['seconds']:.0f}", *(f"{one['peak_memory_mb'][when]:.0f}" for when in ("before", "after"))]
                    if one
                    else [NOT_RUN] * 3
                )
                rows.append([f"{task}, {count} {kind}", *figures])
    note = (
        "Growth: `pangu-cv finetune` on the repository's scenes (256 pixels, six classes) and on textures (five images "
        "of each class), all labels, test images and report included; detect trains 100 steps whatever the count."
    )
    drawing = [f"![Seconds and memory against images]({PICTURE})", ""] if pictures(results) else []
    return [note, "", *drawing, *table(["data", "seconds", "MB before", "peak MB"], rows)]
