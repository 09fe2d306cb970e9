"""A benchmark as cells: each is measured once, kept as one JSON file, and measured again only when its code changes."""

import ast
import hashlib
import json
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import isolate
from benchmarks.machine import ROOT, command, commit, machine, thread_settings, versions
from pangu_cv.staging import write_json

DECODING = tuple(f"export/pangu_runtime/{name}.py" for name in ("decode", "image_file", "orientation", "sixteen_bit"))
READING = ("pangu_cv/features.py", "pangu_cv/freed_memory.py", "pangu_cv/image_size.py", *DECODING)
# What every figure rests on; a cell adds its own benchmark module.
MODEL_CODE = (
    *READING,
    "pangu_cv/data/few_shot.py",
    "pangu_cv/deploy",
    "pangu_cv/evaluate",
    "pangu_cv/finetune",
    "pangu_cv/metrics",
    "pangu_cv/models",
    "pangu_cv/tasks",
    "export/pangu_runtime",
    "recipes/finetune",
)


@dataclass(frozen=True)
class Cell:
    """``target(data=..., is_quick=..., **options)`` returns plain values; ``sources`` are files or folders of code.

    An isolated cell runs in a process of its own.
    """

    name: str
    target: str
    options: dict[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] = MODEL_CODE
    is_isolated: bool = False

    @property
    def code(self) -> str:
        """Digest of options and code: a result under another one is of earlier code."""
        return self.code_from(_code(self.files))

    @property
    def files(self) -> tuple[str, ...]:
        """The sources, and the file that measures."""
        return (*self.sources, f"{self.target.partition(':')[0].replace('.', '/')}.py")

    def code_from(self, read: list[tuple[str, str]]) -> str:
        """``code``, where the files have been read already."""
        return _digest([self.target, self.options, read])

    @property
    def keys(self) -> dict[str, str]:
        """``code``, and ``key`` with machine and versions: a result under another key is measured again."""
        return {"code": self.code, "key": _digest([self.code, machine(), versions()])}


@dataclass(frozen=True)
class Bench:
    """Where images are read and results kept; ``is_quick`` measures small parts, to see that everything runs."""

    data: Path
    results: Path
    is_quick: bool = False

    def finished(self, cell: Cell) -> bool:
        """Whether the cell's result is there and of this code."""
        try:
            return bool(json.loads(self._path(cell).read_text(encoding="utf-8"))["key"] == cell.keys["key"])
        except (OSError, ValueError, KeyError):
            return False

    def measure(self, cell: Cell) -> float:
        """Run a cell and write its result; seconds it took. Raises NotRunError."""
        values = {"data": str(self.data), "is_quick": self.is_quick, **cell.options}
        keys = cell.keys  # of the code that is about to run, whatever is edited meanwhile
        start = time.perf_counter()
        result = isolate.call(cell.target, values) if cell.is_isolated else isolate.resolve(cell.target)(**values)
        seconds = time.perf_counter() - start
        write_record(self._path(cell), cell=cell.name, keys=keys, result=result, seconds=seconds)
        return seconds

    def _path(self, cell: Cell) -> Path:
        return self.results / f"{cell.name}.json"


def write_record(path: Path, *, cell: str, keys: dict[str, str], result: dict[str, Any], seconds: float) -> None:
    """One cell's file, written whole or not at all; ``keys`` as in ``Cell``."""
    about = {
        "cell": cell,
        **keys,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command(),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        "environment": thread_settings(),
        "seconds": round(seconds, 1),
    }
    write_json(path, about | {"result": result})


def of_other_code(cells: Sequence[Cell], codes: Mapping[str, str]) -> list[str]:
    """Names of the cells whose code is not the one they go with; files that many share are read once."""
    read = {files: _code(files) for files in {cell.files for cell in cells}}
    return [cell.name for cell in cells if codes[cell.name] != cell.code_from(read[cell.files])]


def run_all(cells: Sequence[Cell], bench: Bench) -> list[str]:
    """Measure what is not finished, one after another; what could not run is said, with the reason, and returned."""
    not_run = []
    for number, cell in enumerate(cells, start=1):
        head = f"[{number}/{len(cells)}] {cell.name}"
        if bench.finished(cell):
            print(f"{head}: done before", file=sys.stderr)
            continue
        try:
            print(f"{head}: {bench.measure(cell):.0f} s", file=sys.stderr)
        except isolate.NotRunError as reason:
            print(f"{head}: not run, {reason}", file=sys.stderr)
            not_run.append(cell.name)
        except Exception:  # hours of other cells must not be lost with one
            print(f"{head}: failed\n{traceback.format_exc()}", file=sys.stderr)
            not_run.append(cell.name)
    return not_run


def code_digest(sources: Iterable[str]) -> str:
    """Digest of files or folders of code: what a cell leaves outside its result is kept under it."""
    return _digest(_code(sources))


def _code(sources: Iterable[str]) -> list[tuple[str, str]]:
    return [(path.relative_to(ROOT).as_posix(), _meaning(path, path.stat().st_mtime_ns)) for path in _files(sources)]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _files(sources: Iterable[str]) -> list[Path]:
    found: list[Path] = []
    for path in (ROOT / source for source in sources):
        found += sorted(p for p in path.rglob("*") if p.suffix in (".py", ".yaml")) if path.is_dir() else [path]
    return found


@cache
def _meaning(path: Path, written_ns: int) -> str:
    """Code without comments, docstrings and format, so that a better sentence does not cost a new measurement.

    ``written_ns`` is when the file was written: parsing is slow, and a hundred cells share the same files.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        has_comments = path.suffix in (".yaml", ".toml")
        return "\n".join(line.split("#")[0].rstrip() if has_comments else line for line in text.splitlines())
    tree = ast.parse(text)
    for node in ast.walk(tree):
        match getattr(node, "body", None):
            case [ast.Expr(value=ast.Constant(value=str())), *_]:
                del node.body[0]  # type: ignore[attr-defined]
    return _digest(ast.dump(tree))
