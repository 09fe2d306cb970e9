"""False alarms observed against asked, over random halves of all normal images of magnetic_tile.

Patches are computed once per image. A capped bank is learned anew for every split by the package's own code. For the
uncapped bank, which is all patches, nearest distances between every two images are computed once: a split only chooses
among them. Its first split is also run through the package's code, and the difference recorded.

Shapes: I images, P patches of one, D features, J = I.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import subjects
from benchmarks.first_anomaly import ASKED_RATES
from benchmarks.latency import spread
from pangu_cv.tasks.anomaly import NORMAL, AnomalyModel
from pangu_cv.tasks.conformal import conformal_threshold
from pangu_cv.tasks.normality import Normality
from pangu_runtime.decode import DecodeSpec, decode

_SET = "magnetic_tile"


class Split:
    """Scores of one random halving: of the learned images against the others, and of the held-out ones."""

    def __init__(self, left_out: list[float], held_out: list[float]) -> None:
        self.left_out, self.held_out = left_out, held_out

    def observed(self, rate: float) -> float:
        """Share of held-out normals above the threshold for ``rate``."""
        threshold = conformal_threshold(self.left_out, rate=rate)
        return float(np.mean([score > threshold.value for score in self.held_out]))


def measure(*, data: str, is_quick: bool, max_mb: float | None, splits: int) -> dict[str, Any]:
    """Observed rates of ``splits`` random halvings, per asked rate."""
    recipe = subjects.anomaly_recipe(Path(data), _SET)
    normals = [s.path for s in recipe.data.read() if s.label == NORMAL]
    normals = spread(normals, 24) if is_quick else normals
    half = len(normals) // 2
    model = subjects.build_detector(subjects.anomaly_task(recipe), max_mb=max_mb, normals=half)
    patches_IPD = _patches(model, normals, recipe.data.decode_spec)
    orders = [np.random.default_rng(seed).permutation(len(normals)) for seed in range(2 if is_quick else splits)]
    check = None
    if max_mb is None:
        nearest_IPJ = _nearest(patches_IPD)
        measured = [_choose(nearest_IPJ, order[:half], order[half:], top_k=model.top_k) for order in orders]
        check = _difference(measured[0], _learn(model, patches_IPD, orders[0][:half], orders[0][half:]))
    else:
        measured = [_learn(model, patches_IPD, order[:half], order[half:]) for order in orders]
    return {
        "set": _SET,
        "max_mb": max_mb,
        "normals": len(normals),
        "learned": half,
        "splits": len(orders),
        "observed": [{"asked": rate, "per_split": [s.observed(rate) for s in measured]} for rate in ASKED_RATES],
        "difference_to_package": check,
    }


def _patches(model: AnomalyModel, paths: Sequence[Path], spec: DecodeSpec) -> Tensor:
    with torch.inference_mode():
        images = (torch.from_numpy(decode(path, spec=spec))[None] for path in paths)
        return torch.cat([model.patches(model.prepare(image)).flatten(1, 2) for image in images])


def _nearest(patches_IPD: Tensor) -> Tensor:
    """Distance of every patch to the nearest patch of every image: float32[I,P,J]."""
    images, patches, features = patches_IPD.shape
    flat = patches_IPD.reshape(-1, features)
    half_norms = flat.square().sum(1) / 2
    rows = []
    for patches_PD in patches_IPD:
        halves_PJ = torch.addmm(half_norms, patches_PD, flat.T, alpha=-1).view(patches, images, patches).amin(2)
        rows.append((2 * halves_PJ + patches_PD.square().sum(1, keepdim=True)).clamp(min=0).sqrt())
    return torch.stack(rows)


def _choose(nearest_IPJ: Tensor, learned: NDArray[Any], held_out: NDArray[Any], *, top_k: int) -> Split:
    def score(image: int, others: NDArray[Any]) -> float:
        return float(nearest_IPJ[image][:, torch.from_numpy(others)].amin(1).topk(top_k).values.mean())

    return Split([score(i, learned[learned != i]) for i in learned], [score(i, learned) for i in held_out])


def _learn(model: AnomalyModel, patches_IPD: Tensor, learned: NDArray[Any], held_out: NDArray[Any]) -> Split:
    normality = Normality.empty(model)
    for image in learned:
        normality.learn(str(image), patches_IPD[image])
    for image in learned:
        normality.witness(str(image), patches_IPD[image])
    left_out = normality.left_out_scores()
    distances = [normality.bank.distances(patches_IPD[image]) for image in held_out]
    held = [float(d.topk(model.top_k).values.mean()) for d in distances]
    return Split([left_out[str(image)] for image in learned], held)


def _difference(left: Split, right: Split) -> float:
    pairs = zip((*left.left_out, *left.held_out), (*right.left_out, *right.held_out), strict=True)
    return max(abs(a - b) for a, b in pairs)
