"""Where a bundle's milliseconds go on this machine: start, decoding, decision, and the graph's operators."""

import io
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pangu_runtime.bundle import Bundle, Precision, open_bundle
from pangu_runtime.errors import RuntimeLimitError
from pangu_runtime.machine import machine, peak_memory_mb
from pangu_runtime.predictor import Predictor

Progress = Callable[[int, int], None]
WARM_UP = 3  # runs that are not counted: memory is laid out, clocks rise
TRACED_RUNS = 5
TOP = 10  # operators that are named
_JPEG_QUALITY = 90


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one image."""

    median_ms: float
    p95_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timing":
        """From the seconds of every run."""
        return cls(1e3 * float(np.median(seconds)), 1e3 * float(np.quantile(seconds, 0.95)))


@dataclass(frozen=True)
class Operator:
    """What all nodes of one type took, by ONNX Runtime's own profiler: milliseconds an image, and their share."""

    name: str
    nodes: int
    ms: float
    share: float


@dataclass(frozen=True)
class Latency:
    """What was measured, with a picture of ``width`` x ``height`` that the graph saw in ``tiles`` calls.

    ``decision`` is from decoded pixels, ``file`` from the bytes of a JPEG. ``open_s`` checks the bundle's sums,
    ``session_s`` loads the graph, ``first_ms`` is the first decision. ``peak_memory_mb`` is that of the whole process,
    ``threads`` None where ONNX Runtime chose, as it does for the other verbs.
    """

    task: str
    precision: Precision
    width: int
    height: int
    tiles: int
    threads: int | None
    runs: int
    open_s: float
    session_s: float
    first_ms: float
    decision: Timing
    file: Timing
    peak_memory_mb: float
    operators: tuple[Operator, ...]
    machine: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def measure(
    folder: Path,
    *,
    width: int,
    height: int,
    runs: int,
    threads: int | None = None,
    precision: Precision | None = None,
    progress: Progress | None = None,
) -> Latency:
    """Measure a bundle on a generated picture; ``threads`` defaults to all cores, ``precision`` to the bundle's.

    Raises RuntimeLimitError for a picture that the bundle does not take, or a precision that it does not hold.
    """
    opened, open_s = _timed(lambda: open_bundle(folder))
    if not 0 < width * height <= opened.decode.max_pixels:
        raise RuntimeLimitError(f"{width}x{height} pixels; this bundle takes up to {opened.decode.max_pixels}")
    predictor, session_s = _timed(lambda: Predictor(opened, threads=threads, precision=precision))
    image = picture(width, height)
    file = _jpeg(image)
    _, first_s = _timed(lambda: predictor.predict_image(image))
    for _ in range(WARM_UP):
        predictor.predict_image(predictor.decode(file))
    decode_s, decision_s = [], []
    for done in range(1, runs + 1):
        pixels, seconds = _timed(lambda: predictor.decode(file))
        decode_s.append(seconds)
        decision_s.append(_timed(lambda pixels=pixels: predictor.predict_image(pixels))[1])  # type: ignore[misc]
        if progress:
            progress(done, runs)
    peak = peak_memory_mb()
    return Latency(
        task=opened.task,
        precision=predictor.precision,
        width=width,
        height=height,
        tiles=1 if opened.tiling is None else len(opened.tiling.windows(height, width)),
        threads=threads,
        runs=runs,
        open_s=open_s,
        session_s=session_s,
        first_ms=1e3 * first_s,
        decision=Timing.of(decision_s),
        file=Timing.of([sum(pair) for pair in zip(decode_s, decision_s, strict=True)]),
        peak_memory_mb=peak,
        operators=operators(opened, image, threads=threads, precision=precision),
        machine=machine(),
    )


def picture(width: int, height: int) -> NDArray[np.uint8]:
    """Smooth shades with some grain, row by row: making it must not be what the peak of memory shows."""
    rng, x = np.random.default_rng(0), np.arange(width)
    image = np.empty((height, width, 3), np.uint8)
    for y, row in enumerate(image):
        shades = np.stack([np.sin(x / 57), np.full(width, np.sin(y / 41)), np.sin((x + y) / 83)], -1)
        row[:] = 127 + 70 * shades + rng.integers(-10, 11, (width, 1))
    return image


def operators(
    bundle: Bundle, image: NDArray[np.uint8], *, threads: int | None, precision: Precision | None = None
) -> tuple[Operator, ...]:
    """Types of nodes by their share of the graph's time, the largest first; the rest together as ``others``."""
    with tempfile.TemporaryDirectory() as scratch:
        predictor = Predictor(bundle, threads=threads, precision=precision, trace=Path(scratch) / "trace")
        for _ in range(1 + TRACED_RUNS):
            predictor.predict_image(image)
        events = json.loads(Path(predictor.session.end_profiling()).read_text(encoding="utf-8"))
    calls = sorted(event["ts"] for event in events if event["name"] == "model_run")
    counted_from = calls[len(calls) // (1 + TRACED_RUNS)]  # the first image, in as many calls as it has tiles, warms up
    return _by_type([event for event in events if event.get("cat") == "Node" and event["ts"] >= counted_from])


def _by_type(events: list[dict[str, Any]]) -> tuple[Operator, ...]:
    """Events are those of nodes, of ``TRACED_RUNS`` images."""
    spent: Counter[str] = Counter()
    nodes: dict[str, set[str]] = {}
    for event in events:
        kind = event["args"]["op_name"]
        spent[kind] += event["dur"]
        nodes.setdefault(kind, set()).add(event["name"])
    total = max(sum(spent.values()), 1)
    ranked = [kind for kind, _ in spent.most_common()]
    groups = {kind: [kind] for kind in ranked[:TOP]} | ({"others": ranked[TOP:]} if ranked[TOP:] else {})
    return tuple(
        Operator(
            name=name,
            nodes=sum(len(nodes[kind]) for kind in kinds),
            ms=sum(spent[kind] for kind in kinds) / 1e3 / TRACED_RUNS,
            share=sum(spent[kind] for kind in kinds) / total,
        )
        for name, kinds in groups.items()
    )


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=_JPEG_QUALITY)
    return stream.getvalue()


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start
