"""RESULTS.md, part B continued: against anomalib's PatchCore."""

from collections.abc import Mapping
from typing import Any

from benchmarks.markdown import NOT_RUN, Promise, Results, number, table

COMPARED = {
    "magnetic_tile-one_level-all": "magnetic_tile, stride 16 alone",
    "magnetic_tile-two_levels-all": "magnetic_tile, strides 8 and 16",
    "magnetic_tile-two_levels-32": "magnetic_tile, strides 8 and 16, 32 normals",
    "cookies_ad-one_level-all": "cookies_ad, stride 16 alone",
    "cookies_ad-two_levels-all": "cookies_ad, strides 8 and 16",
}
_HEADLINE = ("magnetic_tile-two_levels-all", "magnetic_tile-one_level-all", "cookies_ad-two_levels-all")
_AUROC_LOSS, _FIT, _INFERENCE = 0.005, 3.0, 2.0


def promises(results: Results) -> list[Promise]:
    """Ranking, fit and inference against its customary two levels, and against our level alone."""
    made = []
    for label in _HEADLINE:
        found = results.get(f"anomalib-{label}")
        text = f"Against anomalib's PatchCore, {COMPARED[label]}"
        targets = ("loss of image AUROC ≤ 0.005", "fit ≥ 3 times faster", "inference ≥ 2 times faster (bundle)")
        if found is None:
            made += [Promise(text, target) for target in targets]
            continue
        loss, fit = _loss(found), _fit_ratio(found)
        bundle, alike = _speed_ratio(found, "onnx"), _speed_ratio(found, "torch")
        made += [
            Promise(text, targets[0], f"{loss:+.4f}", loss <= _AUROC_LOSS),
            Promise(text, targets[1], f"{fit:.1f} times", fit >= _FIT),
            Promise(
                text, targets[2], f"{bundle:.1f} times; {alike:.1f} with torch on both sides", bundle >= _INFERENCE
            ),
        ]
    return made


def _loss(found: Mapping[str, Any]) -> float:
    """On images that nothing was chosen on, where the set has some set apart."""
    of = "untouched" if found["ours"]["untouched"] else None
    theirs, ours = (found[side][of] if of else found[side] for side in ("anomalib", "ours"))
    return float(theirs["image_auroc"] - ours["image_auroc"])


def _fit_ratio(found: Mapping[str, Any]) -> float:
    return float(found["anomalib"]["fit_seconds"] / found["ours"]["fit_seconds"])


def _speed_ratio(found: Mapping[str, Any], engine: str) -> float:
    return float(found["latency"]["anomalib"]["median_ms"] / found["latency"][engine]["median_ms"])


def section(results: Results) -> list[str]:
    """The whole part."""
    lines = [
        "### Against anomalib's PatchCore",
        "",
        "Same backbone and tensors (checked equal), same images, decoder, resize to 256 px and normalisation, same "
        "threads, one run. anomalib's torch model is driven directly, without its Engine; coreset 10 %, 9 neighbours. "
        "*Fit* is from image files to a model that decides: ours learns in two passes and calibrates a threshold, "
        "anomalib's embeds and draws its coreset (and has no threshold yet). *Inference* is from one decoded image to "
        "score and map; the engines take turns on the same images; our map has the image's size, anomalib's 256 × 256. "
        "Ours is the recipe: one level (stride 16), 10 MB. Memory is the peak of a process of its own.",
        "",
    ]
    return lines + _quality(results) + _speed(results) + _losses(results)


def _quality(results: Results) -> list[str]:
    rows = []
    for label, text in COMPARED.items():
        found = results.get(f"anomalib-{label}")
        if found is None:
            rows.append([text, *[NOT_RUN] * 5])
            continue
        sides = (found["ours"], found["anomalib"])
        untouched = [side["untouched"] or {"image_auroc": None} for side in sides]
        rows.append(
            [
                text,
                " / ".join(number(side["image_auroc"], ".4f") for side in sides),
                " / ".join(number(part["image_auroc"], ".4f") for part in untouched),
                " / ".join(number(side["pixel_auroc"], ".4f") for side in sides),
                " / ".join(f"{side['bank_vectors']} × {side['features']}" for side in sides),
                str(found["ours"]["normals"]),
            ]
        )
    head = ["ours / anomalib", "image AUROC, all", "untouched", "pixel AUROC", "bank, vectors × numbers", "normals"]
    return table(head, rows)


def _speed(results: Results) -> list[str]:
    rows = []
    for label, text in COMPARED.items():
        found = results.get(f"anomalib-{label}")
        if found is None:
            rows.append([text, *[NOT_RUN] * 6])
            continue
        latency = found["latency"]
        memory = [
            f"{side['peak_memory_mb']['after_fit']:.0f} ({side['peak_memory_mb']['before_fit']:.0f})"
            for side in (found["ours"], found["anomalib"])
        ]
        rows.append(
            [
                text,
                f"{found['ours']['fit_seconds']:.1f} / {found['anomalib']['fit_seconds']:.1f}",
                f"{_fit_ratio(found):.1f}",
                " / ".join(f"{latency[engine]['median_ms']:.1f}" for engine in ("torch", "onnx", "anomalib")),
                f"{_speed_ratio(found, 'torch'):.1f}",
                f"{_speed_ratio(found, 'onnx'):.1f}",
                " / ".join(memory),
            ]
        )
    head = ["ours / anomalib", "fit, s", "times faster", "ms per image: torch / ONNX / anomalib"]
    head += ["times faster, torch", "times faster, ONNX", "peak memory, MB (before the fit)"]
    return table(head, rows)


def _losses(results: Results) -> list[str]:
    lost = []
    for label, text in COMPARED.items():
        found = results.get(f"anomalib-{label}")
        if found is None:
            continue
        for key in ("image_auroc", "pixel_auroc"):
            ours, theirs = found["ours"][key], found["anomalib"][key]
            if ours is not None and theirs is not None and ours < theirs:
                lost.append(f"{key.replace('_auroc', ' AUROC')} of {text} ({ours - theirs:+.4f})")
        slower = [engine for engine in ("torch", "onnx") if _speed_ratio(found, engine) < 1]
        lost += [f"inference of {text} ({engine}, {_speed_ratio(found, engine):.2f} times)" for engine in slower]
        if _fit_ratio(found) < 1:
            lost.append(f"fit of {text} ({_fit_ratio(found):.2f} times)")
    return [f"Lost: {'; '.join(lost) if lost else 'nowhere in what was run'}.", ""]
