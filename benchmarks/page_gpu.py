"""RESULTS.md, part E continued: what a GPU makes of a step, and the backbone that one GPU made."""

import numpy as np

from benchmarks.markdown import NOT_RUN, Promise, Results, points, table
from benchmarks.plan import TABLES
from benchmarks.plan_pretrain import BESIDE_EMBEDDED, GPU_RUNS, gpu_name
from pangu_cv.metrics import mean_interval

_MFU = 0.45


def promises(results: Results) -> list[Promise]:
    """Share of the arithmetic for ViT-L, and the embedded backbone against the default one."""
    text = "A GPU's share of stated bf16 arithmetic (MFU) in a whole step of ViT-L, compiled"
    found = [results[name] for network, _, hidden in GPU_RUNS if (name := gpu_name(network, hidden)) in results]
    shares = {("half hidden" if r["hidden"] else "all visible"): r["mfu"] for r in found if r["network"] == "ViT-L"}
    mfu = Promise(text, "≥ 45 % (aim)")
    if shares:
        told = ", ".join(f"{100 * share:.1f} % {name}" for name, share in shares.items())
        mfu = Promise(text, "≥ 45 % (aim)", told, min(shares.values()) >= _MFU)
    panel = "The embedded backbone (5.5 M, from random weights) against EfficientNet-Lite0, frozen head, six tables"
    embedded = Promise(panel, "ahead: then it is the demo's default")
    if "embedded" in results:
        own, default = (_means(results, name) for name in BESIDE_EMBEDDED)
        gain = mean_interval((own - default).tolist())
        embedded = Promise(panel, embedded.target, points(gain, sign=True), gain.low > 0)
    return [mfu, embedded]


def _means(results: Results, backbone: str) -> np.ndarray:
    """Mean over the tables, draw by draw."""
    found = results["embedded"]["per_draw"][backbone]
    return np.mean([found[name] for name in TABLES], axis=0)


def section(results: Results) -> list[str]:
    """Both tables."""
    return [*_gpus(results), *_embedded(results)]


def _gpus(results: Results) -> list[str]:
    rows = []
    for network, batch, hidden in GPU_RUNS:
        name = f"{network}, {'half hidden' if hidden else 'all visible'}"
        found = results.get(gpu_name(network, hidden))
        if found is None:
            rows.append([name, str(batch), *[NOT_RUN] * 6])
            continue
        mfu = "–" if found["mfu"] is None else f"{100 * found['mfu']:.1f} %"
        product = 100 * found["tflops"] / found["product_tflops"]
        rows.append(
            [
                f"{name}{', checkpointing' if found['checkpointing'] else ''}",
                str(found["batch"]),
                f"{found['parameters'] / 1e6:.0f}",
                f"{found['images_per_s']:.0f}",
                f"{found['tflops']:.0f}",
                mfu,
                f"{product:.0f} %",
                f"{found['peak_gb']:.0f}",
            ]
        )
    gpus = sorted({results[n]["gpu"] for network, _, h in GPU_RUNS if (n := gpu_name(network, h)) in results})
    note = (
        f"A whole step of the joint objective on one GPU ({', '.join(gpus) or 'none was at hand'}), two views of 224 "
        "px, bf16, blocks compiled; MFU of the maker's dense rate, and beside it of a large product timed in the same "
        "process:"
    )
    heads = ["network", "batch", "M parameters", "images/s", "TFLOP/s", "MFU", "of a product", "peak GB"]
    return [note, "", *table(heads, rows)]


def _embedded(results: Results) -> list[str]:
    if "embedded" not in results:
        return ["The embedded backbone: not run.", ""]
    found = results["embedded"]["per_draw"]
    rows = []
    for name in (*TABLES, None):
        values = [found[b][name] if name else _means(results, b).tolist() for b in BESIDE_EMBEDDED]
        gain = mean_interval([own - other for own, other in zip(*values, strict=True)])
        rows.append([name or "mean of 6", *(points(mean_interval(v)) for v in values), points(gain, sign=True)])
    note = (
        "The embedded backbone, made on one GPU from random weights, and the default one: frozen head of `classify` at "
        "224 px, 5 shots, paired draws, test images, balanced accuracy in %:"
    )
    return [note, "", *table(["table", "embedded", "EfficientNet-Lite0", "gain"], rows)]
