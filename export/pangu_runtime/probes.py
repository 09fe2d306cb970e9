"""How fast small graphs run on this machine: what a search for a student asks of the machine that it is for.

A kit is a folder with graphs and ``probes.json``, see ``read_probes``; the answer is a dictionary for ``latency.json``.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from pangu_runtime.bundle import read_json
from pangu_runtime.errors import DataError
from pangu_runtime.machine import cores, machine

KIT, ANSWER = "probes.json", "latency.json"
FORMAT, VERSION = "pangu-cv-probes", 1
ANSWER_FORMAT = "pangu-cv-latency"
_DTYPES = {"float32": np.float32, "uint8": np.uint8}
_MOST_VALUES = 2**28  # of an input: 1 GiB of float32
_TURN_S = 0.1  # a probe's turn lasts about so long
_CALLS = (3, 50)  # at least, at most, of a turn

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Probe:
    """A graph with one input that matters, and the shape it is measured with."""

    name: str
    file: Path
    input_name: str
    dtype: str
    shape: tuple[int, ...]


def read_probes(kit: Path) -> tuple[Probe, ...]:
    """The probes that ``probes.json`` names.

    ``{"format": "pangu-cv-probes", "version": 1, "probes": [{"name", "file", "input": {"name", "dtype", "shape"}}]}``,
    and as far as it is known ``"model"`` (a digest) and ``"image_hw"``, which the answer repeats (see ``origin``).
    Raises PanguError where it is malformed, or names a file that is not there or not inside the kit.
    """
    where, raw = kit / KIT, _read(kit)
    probes = raw.get("probes")
    if not isinstance(probes, list) or not probes:
        raise DataError(f"{where}: probes: a list of at least one is needed")
    found = tuple(_probe(kit, one, f"{where}: probes[{at}]") for at, one in enumerate(probes))
    names = [probe.name for probe in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{where}: two probes have the name {twice!r}")
    return found


def origin(kit: Path) -> dict[str, Any]:
    """What the kit says of where it comes from, checked: ``model``, a text, and ``image_hw``, pixels; {} where nothing.

    Raises DataError where it is malformed.
    """
    where, raw = kit / KIT, _read(kit)
    found: dict[str, Any] = {name: raw[name] for name in ("model", "image_hw") if name in raw}
    if not isinstance(found.get("model", ""), str):
        raise DataError(f"{where}: model: {found['model']!r} found; a text is needed")
    image_hw = found.get("image_hw", [1, 1])
    if not isinstance(image_hw, list) or len(image_hw) != 2 or not all(type(px) is int and px > 0 for px in image_hw):
        raise DataError(f"{where}: image_hw: {image_hw!r} found; height and width in whole pixels are needed")
    return found


def measure_probes(
    kit: Path, *, threads: int | None = None, rounds: int = 5, progress: Progress | None = None
) -> dict[str, Any]:
    """Median milliseconds and quartiles of every probe, on random input; ``threads`` defaults to all cores.

    Probes take turns in every round, in changing order, so that what slows the machine for a while hits all alike. A
    probe's graph is loaded for its turn alone: threads of others would spin beside it. Raises PanguError.
    """
    about, probes, threads = origin(kit), read_probes(kit), threads or cores()
    times: dict[str, list[float]] = {probe.name: [] for probe in probes}
    for turn in range(rounds):
        for at, probe in enumerate(probes if turn % 2 == 0 else probes[::-1]):
            times[probe.name] += _turn(probe, threads)
            if progress:
                progress(turn * len(probes) + at + 1, rounds * len(probes))
    return {
        "format": ANSWER_FORMAT,
        "version": VERSION,
        "threads": threads,
        "machine": machine(),
        **about,
        "probes": {name: _summary(values) for name, values in times.items()},
    }


def _read(kit: Path) -> dict[str, Any]:
    where, raw = kit / KIT, read_json(kit / KIT)
    if raw.get("format") != FORMAT or raw.get("version") != VERSION:
        raise DataError(
            f"{where}: format {raw.get('format')!r} version {raw.get('version')!r} found; {FORMAT!r} version {VERSION} "
            "is spoken here"
        )
    return raw


def _probe(kit: Path, raw: Any, where: str) -> Probe:
    try:
        name, file, given = raw["name"], raw["file"], raw["input"]
        input_name, dtype, shape = given["name"], given["dtype"], given["shape"]
    except (KeyError, TypeError) as error:
        raise DataError(f"{where}: malformed ({type(error).__name__}: {error})") from None
    if not all(isinstance(text, str) and text for text in (name, file, input_name, dtype)):
        raise DataError(f"{where}: name, file, input.name and input.dtype are texts")
    if dtype not in _DTYPES:
        raise DataError(f"{where}: input.dtype: {dtype!r} found; allowed: {', '.join(_DTYPES)}")
    if not isinstance(shape, list) or not all(type(size) is int and size > 0 for size in shape):
        raise DataError(f"{where}: input.shape: {shape!r} found; a list of positive whole numbers is needed")
    if math.prod(shape) > _MOST_VALUES:
        raise DataError(f"{where}: input.shape: {math.prod(shape)} values; at most {_MOST_VALUES} are taken")
    return Probe(name, _inside(kit, file, where), input_name, dtype, tuple(shape))


def _inside(kit: Path, file: str, where: str) -> Path:
    """The file, which neither its name nor a link may lead out of the kit."""
    path, named = kit / file, PurePosixPath(file)
    try:
        stays = path.resolve().is_relative_to(kit.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL in the name
        raise DataError(f"{where}: file: {file!r} cannot be found ({error})") from None
    if named.is_absolute() or ".." in named.parts or not stays:
        raise DataError(f"{where}: file: {file!r} lies outside the kit")
    if named.suffix != ".onnx" or not path.is_file():
        raise DataError(f"{where}: file: {file!r} is no ONNX file of the kit")
    return path


def _turn(probe: Probe, threads: int) -> list[float]:
    """Milliseconds of some calls; the first ones are not counted."""
    session, feed = _session(probe, threads), {probe.input_name: _random(probe)}
    try:
        session.run(None, feed)
        once = _milliseconds(session, feed)
        calls = min(max(_CALLS[0], int(1e3 * _TURN_S / max(once, 1e-3))), _CALLS[1])
        return [_milliseconds(session, feed) for _ in range(calls)]
    except Exception as error:  # onnxruntime raises its own Fail, InvalidArgument, RuntimeException, …
        raise DataError(f"{probe.file}: cannot be run with {probe.dtype}{list(probe.shape)} ({error})") from None


def _session(probe: Probe, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(probe.file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise DataError(f"{probe.file}: onnxruntime {ort.__version__} cannot load it ({error})") from None
    needed = [one.name for one in session.get_inputs()]
    if needed != [probe.input_name]:
        raise DataError(f"{probe.file}: its inputs are {needed}; {KIT} names {probe.input_name!r}")
    return session


def _random(probe: Probe) -> NDArray[Any]:
    rng = np.random.default_rng(0)
    if probe.dtype == "uint8":
        return rng.integers(0, 256, probe.shape, dtype=np.uint8)
    return rng.standard_normal(probe.shape, dtype=np.float32)


def _milliseconds(session: ort.InferenceSession, feed: dict[str, NDArray[Any]]) -> float:
    start = time.perf_counter()
    session.run(None, feed)
    return 1e3 * (time.perf_counter() - start)


def _summary(values: list[float]) -> dict[str, float]:
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"ms": float(median), "low": float(low), "high": float(high)}
