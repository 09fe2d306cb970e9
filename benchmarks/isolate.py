"""A function called in a process of its own, so that its time and peak memory are its own.

``python -m benchmarks.isolate TARGET ANSWER`` reads plain values as JSON from standard input, writes what is returned.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pangu_cv.staging import write_json

ROOT = Path(__file__).parents[1]


class NotRunError(Exception):
    """What a cell needs is not on this machine; the message says what."""


_NOT_RUN = "not-run"


def resolve(target: str) -> Any:
    """The function behind ``package.module:function``."""
    module, _, function = target.partition(":")
    return getattr(importlib.import_module(module), function)


def call(target: str, values: dict[str, Any], *, python: str = sys.executable) -> dict[str, Any]:
    """``target(**values)`` in a new process of ``python``; raises NotRunError where it does."""
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "answer.json"
        done = subprocess.run(
            [python, "-m", "benchmarks.isolate", target, str(answer)],
            input=json.dumps(values),
            env=code_paths(),
            capture_output=True,
            text=True,
            check=False,
        )
        if not answer.is_file():
            raise RuntimeError(f"{target} ended with {done.returncode}\n{done.stderr[-4000:]}")
        found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if _NOT_RUN in found:
        raise NotRunError(found[_NOT_RUN])
    return found


def stop_together() -> None:
    """From here on a terminated process takes the one it waits for along; left alone that would measure on unseen."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def code_paths() -> dict[str, str]:
    """The environment of a process that is to import the code beside this file."""
    paths = [str(ROOT), str(ROOT / "export"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def _main(target: str, answer: Path) -> None:
    values = json.load(sys.stdin)
    try:
        result = resolve(target)(**values)
    except NotRunError as reason:
        result = {_NOT_RUN: str(reason)}
    write_json(answer, result)


if __name__ == "__main__":
    # the module that callers import, so that there is one NotRunError
    from benchmarks.isolate import _main as main

    main(sys.argv[1], Path(sys.argv[2]))
