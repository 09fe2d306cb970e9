"""The server on one core, its clients on the other, against ONNX Runtime alone on the same core, in turn."""

import asyncio
import io
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.deploy_client import Line, Request, infer, predict
from benchmarks.deploy_raw import Raw, raw
from benchmarks.deploy_server import Server, are_threads_of_one, on_core, serving, two_cores
from benchmarks.deploy_subjects import prepare
from benchmarks.deploy_turns import in_turn, ratio
from benchmarks.latency import spread
from pangu_runtime.decode import decode
from pangu_runtime.latency import picture

_STACK = 32
_ROUNDS = 5
_SECONDS = 5.0  # of a turn
_CAMERA_PX = (1280, 960)
_CALLS = "pangu_call_images"


@dataclass(frozen=True)
class Way:
    """How tensors are sent: images of one request, requests at once, and images of a call that both sides make."""

    label: str
    images: int
    clients: int
    batch: int


WAYS = {
    "alone": Way("one image a request, one a call", images=1, clients=4, batch=1),
    "joined": Way("one image a request, joined to eight a call", images=1, clients=24, batch=8),
    "together": Way("eight images a request, eight a call", images=8, clients=3, batch=8),
}
CLIENTS = (1, 16, 64)  # of image files


def measure(*, data: str, is_quick: bool, model: str) -> dict[str, Any]:
    """Raw tensors against ONNX Runtime alone, then image files."""
    prepared = prepare(model, Path(data))
    paths = spread(prepared.test, _STACK)
    return {"model": model} | served(prepared.bundle, paths, is_quick=is_quick)


def served(bundle: Path, paths: Sequence[Path], *, is_quick: bool) -> dict[str, Any]:
    """``paths`` are images of one size."""
    server_core, client_core = two_cores()
    images_NHW3 = np.stack([decode(path) for path in paths])
    seconds, rounds = (0.3, 1) if is_quick else (_SECONDS, _ROUNDS)
    with on_core(client_core), tempfile.TemporaryDirectory() as scratch:
        stack = Path(scratch) / "images.npy"
        np.save(stack, images_NHW3)
        with raw(bundle / "model.onnx", stack, core=server_core) as alone:
            ways = {
                name: _way(way, bundle, alone, images_NHW3, core=server_core, seconds=seconds, rounds=rounds)
                for name, way in WAYS.items()
            }
    files = {
        "as they lie": [path.read_bytes() for path in paths],
        "{} x {} JPEG".format(*_CAMERA_PX): [_jpeg(picture(*_CAMERA_PX))],
    }
    with on_core(client_core), serving(bundle, core=server_core) as server:
        posts = {name: _posts(server, bodies, seconds=seconds) for name, bodies in files.items()}
    is_one = are_threads_of_one(server_core, client_core)
    return {"size_hw": images_NHW3.shape[1:3], "one_core_twice": is_one, "ways": ways, "files": posts}


def _way(
    way: Way, bundle: Path, alone: Raw, images_NHW3: NDArray[np.uint8], *, core: int, seconds: float, rounds: int
) -> dict[str, Any]:
    """Both sides decide the same number of images, in turn."""
    speed = alone.images_per_s(batch=way.batch, count=2 * way.batch)
    step = math.lcm(way.batch, way.images)
    count = step * max(2, round(speed * seconds / step))
    with serving(bundle, core=core, options=["--max-batch", str(way.batch)]) as server:
        first = range(0, len(images_NHW3) - way.images + 1, way.images)
        requests = [Request(infer(server.name, images_NHW3[at : at + way.images])) for at in first]

        def ours() -> float:
            done = asyncio.run(load(server.port, requests, count // way.images, clients=way.clients))
            return count / done.seconds

        before = _calls(server)
        sides: dict[str, Callable[[], float]] = {"raw": lambda: alone.images_per_s(batch=way.batch, count=count)}
        rates = in_turn({"serve": ours, **sides}, rounds=rounds)
        calls, images = (after - was for after, was in zip(_calls(server), before, strict=True))
    return {
        "images": count,
        "images_per_s": {name: float(np.median(values)) for name, values in rates.items()},
        "ratio": ratio(rates, "serve", "raw"),
        "images_of_a_call": images / calls,
    }


def _calls(server: Server) -> tuple[float, float]:
    """Calls of the graph so far, and the images in them."""
    return sum(server.counted(f"{_CALLS}_count").values()), sum(server.counted(f"{_CALLS}_sum").values())


def _posts(server: Server, bodies: Sequence[bytes], *, seconds: float) -> dict[str, Any]:
    requests = [Request(predict(server.name, body)) for body in bodies]
    seconds_of_one = asyncio.run(load(server.port, requests, 8, clients=1)).seconds / 8
    found = {}
    for clients in CLIENTS:
        count = max(2 * clients, round(seconds / seconds_of_one))
        done = asyncio.run(load(server.port, requests, count, clients=clients))
        percentiles = {f"p{at}": float(np.percentile(done.taken_ms, at)) for at in (50, 95, 99)}
        rate = count / done.seconds
        found[str(clients)] = {"images": count, "images_per_s": rate, "ms": percentiles, "waits": done.waits}
    return found


@dataclass(frozen=True)
class Load:
    """Milliseconds of each request, seconds of all, and how often the server said "later" (429)."""

    taken_ms: list[float]
    seconds: float
    waits: int


async def load(port: int, requests: Sequence[Request], count: int, *, clients: int) -> Load:
    """Send ``count`` requests, so many at once; raises RuntimeError where one is not answered well."""
    left, taken, waits = iter(range(count)), [], []

    async def work() -> None:
        line = Line(port)
        for number in left:
            start = time.perf_counter()
            answer = await line.ask_patiently(requests[number % len(requests)])
            taken.append(1e3 * (time.perf_counter() - start))
            waits.append(answer.waits)
            if answer.status != 200:
                raise RuntimeError(f"{answer.status}: {answer.body[:200]!r}")
        line.close()

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(min(clients, count))))
    return Load(taken, time.perf_counter() - start, sum(waits))


def _jpeg(image_HW3: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image_HW3).save(stream, "JPEG", quality=90)
    return stream.getvalue()
