"""What deciding costs: arithmetic and parameters of every backbone that an image has to pass, each counted once."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from pangu_cv.tasks.classify import ClassifyModel

_ROUNDS = 7


@dataclass(frozen=True)
class Cost:
    """Of one image: billions of operations, milliseconds here, millions of parameters, backbones passed."""

    gflop: float
    ms: float
    params_m: float
    backbones: int

    def as_json(self) -> dict[str, Any]:
        """For ``metrics.json``."""
        return asdict(self)


def costs(models: Sequence[ClassifyModel], fused: ClassifyModel) -> tuple[Cost, Cost]:
    """Of all models together and of the one, timed in turn. Models that share a backbone and views pass it once."""
    apart = {(model.fingerprint, model.config.decision_views): model for model in models}
    sides = (list(apart.values()), [fused])
    times: tuple[list[float], list[float]] = ([], [])
    image = torch.zeros(1, 256, 256, 3, dtype=torch.uint8)
    for turn in range(_ROUNDS + 1):
        for taken, side in zip(times, sides, strict=True):
            start = time.perf_counter()
            with torch.inference_mode():
                for model in side:
                    model.features(model.prepare(image))
            if turn:  # the first one warms up
                taken.append(1000 * (time.perf_counter() - start))
    together, one = (
        Cost(_gflop(side, image), float(np.median(taken)), _millions(side), len(side))
        for side, taken in zip(sides, times, strict=True)
    )
    return together, one


def _gflop(models: Sequence[ClassifyModel], image: torch.Tensor) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for model in models:
            model.features(model.prepare(image))
    return float(counter.get_total_flops()) / 1e9


def _millions(models: Sequence[ClassifyModel]) -> float:
    return sum(float(sum(t.numel() for t in model.state_dict().values())) for model in models) / 1e6
