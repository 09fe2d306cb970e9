"""How long a graph takes: side by side with others in turn, at the start of a session, and by kind of operator."""

import json
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from pangu_cv.deploy.decider import GraphDecider, Kind, Pixels

ROUNDS = 20
_WARM_UP = 2


@dataclass(frozen=True)
class Timing:
    """``ratio`` is the median over the rounds of this graph's time over the first graph's in the same round,
    ``ratio_high`` the upper quartile."""

    median_ms: float
    ratio: float
    ratio_high: float
    start_ms: float


def in_turn(graphs: Mapping[str, Path], image_HW3: Pixels, kind: Kind, *, rounds: int = ROUNDS) -> dict[str, Timing]:
    """Time one image through each graph, round after round, so that what slows the machine slows them all."""
    deciders, start_ms = {}, {}
    for name, path in graphs.items():
        begun = time.perf_counter()
        deciders[name] = GraphDecider(path, kind)
        start_ms[name] = 1e3 * (time.perf_counter() - begun)
    taken: dict[str, list[float]] = {name: [] for name in graphs}
    for number in range(_WARM_UP + rounds):
        for name, decider in deciders.items():
            begun = time.perf_counter()
            decider.call(image_HW3[None])
            if number >= _WARM_UP:
                taken[name].append(1e3 * (time.perf_counter() - begun))
    first = taken[next(iter(taken))]
    ratios = {name: np.divide(ms, first) for name, ms in taken.items()}
    return {
        name: Timing(median(taken[name]), float(np.median(one)), float(np.quantile(one, 0.75)), start_ms[name])
        for name, one in ratios.items()
    }


def by_operator(graph: Path, image_HW3: Pixels, kind: Kind, *, rounds: int = ROUNDS) -> dict[str, float]:
    """Milliseconds of one image by kind of operator, the largest first: of every node the median of its times."""
    with tempfile.TemporaryDirectory() as folder:
        decider = GraphDecider(graph, kind, profile=Path(folder) / "profile")
        for _ in range(_WARM_UP + rounds):
            decider.call(image_HW3[None])
        events = json.loads(Path(decider.session.end_profiling()).read_text(encoding="utf-8"))
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            taken[event["args"]["op_name"], event["name"]].append(event["dur"] / 1e3)
    total: Counter[str] = Counter()
    for (operator, _), ms in taken.items():
        total[operator] += median(ms)  # type: ignore[assignment]
    return dict(total.most_common())
