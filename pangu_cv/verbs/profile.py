"""``pangu-cv profile``: where the milliseconds of a bundle go, or how fast the probes of a kit are, without torch."""

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from pangu_cv.errors import SettingsError
from pangu_cv.progress import bar
from pangu_cv.staging import write_json
from pangu_runtime.bundle import Precision
from pangu_runtime.latency import Latency, measure
from pangu_runtime.probes import ANSWER, KIT, measure_probes


def profile(
    path: Path,
    *,
    threads: int | None = None,
    precision: Precision | None = None,
    size: str = "1280x960",
    runs: int = 50,
    rounds: int = 5,
    out: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Measure a bundle on this machine: start, decoding, decision, memory, operators. Runs without torch.

    Of a kit of probes (a folder with probes.json) every probe is measured, and latency.json written.

    Parameters
    ----------
    path
        The folder that 'pangu-cv export' wrote, or a kit of probes.
    threads
        Threads of the runtime; default all cores.
    precision
        Which of the bundle's precisions is measured: fp32, fp16 or int8; default: the one it names.
    size
        WIDTHxHEIGHT of the generated picture that the bundle decides; take that of your camera.
    runs
        Decisions that are measured.
    rounds
        Of a kit: turns that every probe takes.
    out
        Also write the figures to this file; of a kit, default KIT/latency.json.
    as_json
        Print JSON.
    """
    for value, flag in ((threads, "--threads"), (runs, "--runs"), (rounds, "--rounds")):
        if value is not None and value < 1:
            raise SettingsError(f"{flag}: {value} found; at least 1 is needed")
    if (path / KIT).is_file():
        if precision is not None:
            raise SettingsError(f"--precision: {path} is a kit of probes, whose graphs are measured as they are")
        _profile_kit(path, threads, rounds, out or path / ANSWER, as_json)
        return
    width, height = _size(size)
    with bar("deciding") as progress:
        found = measure(
            path, width=width, height=height, runs=runs, threads=threads, precision=precision, progress=progress
        )
    if out is not None:
        write_json(out, found.to_json())
    if as_json:
        print(json.dumps(found.to_json()))
        return
    _show(found)
    print(f"Next: the same on the machine at the line: pangu-cv profile {path}", file=sys.stderr)


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text)
    if found is None:
        raise SettingsError(f"--size: '{text}' found; WIDTHxHEIGHT in pixels is needed, for example 1280x960")
    return int(found[1]), int(found[2])


def _show(found: Latency) -> None:
    tiles = f" in {found.tiles} tiles" if found.tiles > 1 else ""
    cpu, memory = found.machine["cpu"], found.machine["memory_gb"]
    threads = "threads as onnxruntime chooses" if found.threads is None else f"{found.threads} threads"
    print(f"{found.task}, {found.precision}, {found.width}x{found.height} pixels{tiles}, {found.runs} runs, {threads}")
    print(f"{cpu}, {found.machine['cores']} cores, {memory} GB, onnxruntime {found.machine['onnxruntime']}")
    start = Table("start", "")
    start.add_row("sums checked", f"{found.open_s:.3f} s")
    start.add_row("graph loaded", f"{found.session_s:.3f} s")
    start.add_row("first decision", f"{found.first_ms / 1e3:.3f} s")
    start.add_row("peak memory of the process", f"{found.peak_memory_mb:.0f} MB")
    each = Table("each image", "median", "p95")
    for name, timing in (("pixels to decision", found.decision), ("JPEG file to decision", found.file)):
        each.add_row(name, f"{timing.median_ms:.2f} ms", f"{timing.p95_ms:.2f} ms")
    where = Table("operator", "nodes", "ms an image", "share")
    for one in found.operators:
        where.add_row(one.name, str(one.nodes), f"{one.ms:.2f}", f"{one.share:.1%}")
    console = Console(markup=False)  # names of operators are the bundle's
    for table in (start, each, where):
        for column in table.columns[1:]:
            column.justify = "right"
        console.print(table)


def _profile_kit(kit: Path, threads: int | None, rounds: int, out: Path, as_json: bool) -> None:
    with bar("probing") as progress:
        found = measure_probes(kit, threads=threads, rounds=rounds, progress=progress)
    write_json(out, found)
    if as_json:
        print(json.dumps(found))
        return
    table = Table("probe", "median", "quartiles")
    for name, one in found["probes"].items():
        table.add_row(name, f"{one['ms']:.3f} ms", _quartiles(one))
    Console(markup=False).print(table)
    print(f"wrote {out}; give it to the search for a student", file=sys.stderr)


def _quartiles(one: dict[str, Any]) -> str:
    return f"{one['low']:.3f} to {one['high']:.3f} ms"
