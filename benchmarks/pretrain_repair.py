"""Judge and restore: what one encoder for both loses against a twin that only judges and one that only restores.

Restoration is measured on images that no run has seen: BSD68 with white noise of deviation 25 (grey), and PolyU's
photos with their camera's own noise.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.pretrain_subjects import pool_recipe, run, story
from pangu_cv.pretrain.restore import Restorer

Pixels = NDArray[np.uint8]
TWINS: dict[str, tuple[str, ...]] = {
    "both": ("objective.repair.weight=1",),
    "judge": ("objective.repair.weight=0",),
    "restore": (
        "objective.repair.weight=1",
        "objective.contrast=0",
        "targets=[]",
    ),  # without probes the last state is kept
}
_SIGMA = 25


def measure(*, data: str, is_quick: bool, twin: str, seed: int, steps: int) -> dict[str, Any]:
    """One twin: its probes, and PSNR in dB where it restores."""
    changes = (f"optim.steps={steps}", f"round_steps={steps}", *TWINS[twin])
    name = f"repair-{twin}-{seed}"
    result = run(pool_recipe(Path(data), "joint_repair", seed=seed, name=name, is_quick=is_quick, changes=changes))
    found = {"twin": twin, "seed": seed, "asked_steps": steps, **story(result)}
    if twin == "judge":
        return found
    restorer = Restorer.load(result.folder)
    return found | {"psnr_db": restoration(restorer, Path(data) / "restoration", is_quick=is_quick)}


def restoration(restorer: Restorer, folder: Path, *, is_quick: bool) -> dict[str, dict[str, list[float]]]:
    """PSNR per image, of the noisy input, of non-local means (OpenCV, told the deviation) and of ours."""
    return {
        name: _compared(restorer, pairs[:2] if is_quick else pairs)
        for name, pairs in (("bsd68_sigma25", _bsd68(folder)), ("polyu", _polyu(folder)))
    }


def _compared(restorer: Restorer, pairs: list[tuple[Pixels, Pixels, float]]) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {"input": [], "non_local_means": [], "ours": []}
    for noisy, clean, sigma in pairs:
        figures["input"].append(psnr_db(noisy, clean))
        strength = max(1.0, 0.8 * sigma)  # of OpenCV's own unit; near its best on BSD68
        figures["non_local_means"].append(psnr_db(_non_local_means(noisy, strength), clean))
        figures["ours"].append(psnr_db(_as_input(restorer.restore(noisy), noisy), clean))
    return figures


def _bsd68(folder: Path) -> list[tuple[Pixels, Pixels, float]]:
    pairs = []
    for number, path in enumerate(sorted((folder / "BSD68").glob("*.png"))):
        clean = _read(path)
        grey = cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY)[..., None]
        noise = np.random.default_rng(number).normal(0, _SIGMA, grey.shape)
        noisy = (grey + noise).round().clip(0, 255).astype(np.uint8)
        pairs.append((np.repeat(noisy, 3, 2), np.repeat(grey, 3, 2), float(_SIGMA)))
    return pairs


def _polyu(folder: Path) -> list[tuple[Pixels, Pixels, float]]:
    pairs = []
    for path in sorted((folder / "PolyU").glob("*_real.*")):
        noisy, clean = _read(path), _read(path.with_name(path.name.replace("_real", "_mean")))
        pairs.append((noisy, clean, float(np.std(noisy.astype(float) - clean))))
    return pairs


def _read(path: Path) -> Pixels:
    return np.asarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), np.uint8)


def _non_local_means(noisy: Pixels, strength: float) -> Pixels:
    return np.asarray(cv2.fastNlMeansDenoisingColored(noisy, None, strength, strength), np.uint8)


def _as_input(found: Pixels, noisy: Pixels) -> Pixels:
    """Grey in, grey out."""
    is_grey = bool((noisy[..., 0] == noisy[..., 1]).all())
    return np.repeat(found.mean(2, keepdims=True).round().astype(np.uint8), 3, 2) if is_grey else found


def psnr_db(found: Pixels, truth: Pixels) -> float:
    """10·log10(255² / mean squared error)."""
    error = np.mean((found.astype(np.float64) - truth) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-12)))
