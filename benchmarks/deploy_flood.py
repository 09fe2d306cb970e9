"""Many requests from many clients, some of them broken: is every good one answered right, every bad one refused, and
does the server's memory stay where it was?"""

import asyncio
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.deploy_bad import BAD_KINDS, CUT, bad_request
from benchmarks.deploy_client import Answer, Line, Request, infer, predict
from benchmarks.deploy_server import Server, on_core, serving, two_cores
from benchmarks.deploy_subjects import prepare
from benchmarks.latency import spread
from pangu_runtime.decode import decode
from pangu_runtime.predictor import ClassPrediction, Predictor

CLIENTS, BAD_SHARE = 64, 0.05
MAX_BODY_MB, MAX_MEGAPIXELS = 1, 4
SIDES_PX = (128, 200, 320)  # of images in the requests, besides their own size
_SCORE_WITHIN = 1e-3  # as a certificate's: eight images in one call differ from one by rounding
_IMAGES = 24
_SAMPLE_S = 0.1


@dataclass(frozen=True)
class Good:
    """A request and the answer that is right."""

    request: Request
    label: str
    scores: tuple[float, ...]


@dataclass
class Tally:
    """What came back."""

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    let_through: list[str] = field(default_factory=list)
    waits: int = 0
    score_difference: float = 0.0

    @property
    def done(self) -> int:
        """Requests that are over."""
        return self.right + len(self.wrong) + sum(self.refused.values()) + len(self.let_through)


def measure(*, data: str, is_quick: bool, model: str, requests: int, seed: int) -> dict[str, Any]:
    """A classifier's bundle under ``requests`` requests."""
    prepared = prepare(model, Path(data))
    paths = spread(prepared.test, _IMAGES)
    return {"model": model} | flooded(prepared.bundle, paths, requests=400 if is_quick else requests, seed=seed)


def flooded(
    bundle: Path, paths: Sequence[Path], *, requests: int, seed: int, options: Sequence[str] = ()
) -> dict[str, Any]:
    """Right answers are those of the Predictor in this process, one image at a time; ``options`` are of the server."""
    server_core, client_core = two_cores()
    limits = ["--max-body-mb", str(MAX_BODY_MB), "--max-megapixels", str(MAX_MEGAPIXELS)]
    with on_core(client_core), serving(bundle, core=server_core, options=[*limits, *options]) as server:
        good = _good(bundle, server.name, paths)
        tally, memory = Tally(), [(0, server.rss_mb)]
        plan = planned(requests, seed=seed)
        asyncio.run(_flood(server, plan, good, tally, memory))
        after = asyncio.run(_settled(server, good[0]))
        counts = server.counted("pangu_requests_total", "status", routes=("predict", "infer"))
        ended_well = server.stop()
    kinds = Counter(kind for kind, _ in plan if kind is not None)
    return {
        "requests": requests,
        "clients": CLIENTS,
        "seed": seed,
        "bad": dict(kinds),
        "right": tally.right,
        "good": requests - sum(kinds.values()),
        "wrong": tally.wrong[:5],
        "score_difference": tally.score_difference,
        "refused": dict(tally.refused),
        "statuses": {kind: dict(codes) for kind, codes in tally.statuses.items()},
        "let_through": tally.let_through[:5],
        "waits": tally.waits,
        "servers_own_count": {code: int(count) for code, count in counts.items()},
        "agrees": _agrees(counts, kinds, tally, after["right"]),
        "after": after | {"ended_well": ended_well},
        "memory": memory_of(memory, requests),
    }


def planned(requests: int, *, seed: int) -> list[tuple[str | None, int]]:
    """Kind of every request (None: a good one) and a seed of its own; the same for the same seed."""
    random = np.random.default_rng(seed)
    is_bad = np.zeros(requests, bool)
    is_bad[random.choice(requests, round(BAD_SHARE * requests), replace=False)] = True
    kinds = iter(random.permutation([BAD_KINDS[at % len(BAD_KINDS)] for at in range(int(is_bad.sum()))]).tolist())
    return [(next(kinds) if bad else None, int(random.integers(2**31))) for bad in is_bad]


def _good(bundle: Path, name: str, paths: Sequence[Path]) -> list[Good]:
    """Files of several sizes and formats, and tensors."""
    predictor, found = Predictor(bundle, threads=1), []
    for number, path in enumerate(paths):
        content = _in_form(path, number)
        pixels = decode(content, spec=predictor.bundle.decode)
        expected = predictor.predict_image(pixels)
        assert isinstance(expected, ClassPrediction)
        raw = infer(name, pixels[None]) if number % 4 == 3 else predict(name, content)
        good = Good(Request(raw), expected.label, tuple(expected.scores_C.tolist()))
        found.append(good)
    return found


def _in_form(path: Path, number: int) -> bytes:
    """As it lies, or at another size as JPEG or PNG."""
    side = (None, *SIDES_PX)[number % (1 + len(SIDES_PX))]
    if side is None:
        return path.read_bytes()
    stream = io.BytesIO()
    with Image.open(path) as image:
        resized = image.convert("RGB").resize((side, side * 3 // 4))
    resized.save(stream, ("JPEG", "PNG")[number // 4 % 2], **({"quality": 92} if number // 4 % 2 == 0 else {}))
    return stream.getvalue()


async def _flood(
    server: Server,
    plan: Sequence[tuple[str | None, int]],
    good: Sequence[Good],
    tally: Tally,
    memory: list[tuple[int, float]],
) -> None:
    left = iter(plan)
    workers = [asyncio.create_task(_work(server, left, good, tally)) for _ in range(CLIENTS)]
    while not all(worker.done() for worker in workers):
        await asyncio.sleep(_SAMPLE_S)
        memory.append((tally.done, server.rss_mb))
    await asyncio.gather(*workers)


async def _work(server: Server, left: Iterator[tuple[str | None, int]], good: Sequence[Good], tally: Tally) -> None:
    line = Line(server.port)
    for kind, seed in left:
        chosen = good[seed % len(good)]
        request = chosen.request if kind is None else bad_request(kind, chosen.request, server.name, seed)
        answer = await line.ask_patiently(request)
        tally.waits += answer.waits
        if kind is None:
            _judge(answer, chosen, tally)
            continue
        tally.statuses.setdefault(kind, Counter())[str(answer.status)] += 1
        # Status 0: of a cut line nobody hears an answer, and a body that is too long may be cut by the server.
        if 400 <= answer.status < 500 or answer.status == 0:
            tally.refused[kind] += 1
        else:
            tally.let_through.append(f"{kind} {seed}: {answer.status}")
    line.close()


def _judge(answer: Answer, expected: Good, tally: Tally) -> None:
    if answer.status != 200:
        tally.wrong.append(f"{answer.status} {answer.body[:100]!r}")
        return
    label, scores = _decision(answer.body, expected)
    apart = max(abs(a - b) for a, b in zip(scores, expected.scores, strict=True))
    tally.score_difference = max(tally.score_difference, apart)
    if label == expected.label and apart <= _SCORE_WITHIN:
        tally.right += 1
    else:
        tally.wrong.append(f"{label} for {expected.label}, scores {apart:.2g} apart")


def _decision(body: bytes, expected: Good) -> tuple[str, list[float]]:
    """Of a file's answer, or of a tensor's, which tells the number of the class."""
    told = json.loads(body)
    if "outputs" not in told:
        return told["label"], told["scores"]
    by_name = {one["name"]: one["data"] for one in told["outputs"]}
    best = int(np.argmax(expected.scores))
    return expected.label if by_name["label"] == [best] else f"class {by_name['label']}", by_name["scores"]


def _agrees(counts: Mapping[str, float], kinds: Mapping[str, int], tally: Tally, more: int) -> bool:
    """Whether the server counted as its clients did; 499 is a line that was cut."""
    cut = sum(kinds.get(kind, 0) for kind in CUT)
    expected = {"200": tally.right + more, "499": cut, "429": tally.waits}
    return all(counts.get(code, 0) == count for code, count in expected.items())


async def _settled(server: Server, good: Good) -> dict[str, Any]:
    """A second after the flood: what the server still holds, and whether it still decides."""
    await asyncio.sleep(1.0)
    tally, line = Tally(), Line(server.port)
    _judge(await line.ask(good.request), good, tally)
    line.close()
    held = sum(server.counted("pangu_in_flight_bytes").values())
    return {"bytes_held": held, "waiting": sum(server.counted("pangu_waiting_images").values()), "right": tally.right}


def memory_of(samples: Sequence[tuple[int, float]], requests: int) -> dict[str, Any]:
    """Resident memory in MB by requests done: at the 10 % mark, at the end, the most, and a hundred points between."""
    done = np.array([count for count, _ in samples]) / requests
    held = np.array([mb for _, mb in samples])
    marks = {
        f"at_{at}": float(np.median(held[np.abs(done - at / 100) <= _near(done, at / 100)])) for at in (10, 50, 100)
    }
    places = [int(np.abs(done - at).argmin()) for at in np.linspace(0, 1, 101)]
    series = [[round(float(done[at]), 4), round(float(held[at]), 1)] for at in sorted(set(places))]
    growth = marks["at_100"] - marks["at_10"]
    return marks | {
        "growth_mb": growth,
        "growth_share": growth / marks["at_10"],
        "peak": float(held.max()),
        "samples": len(held),
        "series": series,
    }


def _near(done: Any, mark: float) -> float:
    """Two hundredths around a mark, or as far as the next sample is."""
    return max(0.02, float(np.abs(done - mark).min()))
