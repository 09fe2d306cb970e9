"""Cells measured in a process of their own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.isolate import ROOT, code_paths

_WAITS = """
from benchmarks import isolate
isolate.stop_together()
isolate.call("tests.benchmarks.test_isolate:wait", {"told": TOLD})
"""


def wait(told: str) -> dict[str, int]:
    """What the process that is measured does here."""
    Path(told).write_text(str(os.getpid()))
    time.sleep(60)
    return {}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes as Linux lists them")
def test_a_terminated_benchmark_leaves_nothing_running(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    script = _WAITS.replace("TOLD", repr(str(told)))
    started = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=code_paths())
    pid = _until(lambda: told.is_file() and told.read_text())
    started.terminate()
    assert started.wait(20) == 128 + signal.SIGTERM
    assert _until(lambda: not Path(f"/proc/{pid}").exists())


def _until(found: Callable[[], Any]) -> Any:
    ends = time.monotonic() + 30
    while not (value := found()) and time.monotonic() < ends:
        time.sleep(0.05)
    return value
