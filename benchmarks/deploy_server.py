"""``pangu-cv serve`` as a process of its own on one core: its memory, its own counts, its end."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.isolate import NotRunError, code_paths

HOST = "127.0.0.1"
SERVER_CORE, CLIENT_CORE = 0, 1  # places in the list of cores that this process may use
_READY_S = 60.0
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")


@dataclass(frozen=True)
class Server:
    """A running server of one bundle."""

    process: subprocess.Popen[bytes]
    port: int
    name: str
    log: Path

    @property
    def rss_mb(self) -> float:
        """Memory that the process holds now, in millions of bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) * 1024 / 1e6

    def get(self, path: str) -> str:
        """A page of it as text."""
        with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def counted(self, metric: str, label: str = "", *, routes: Sequence[str] = ()) -> dict[str, float]:
        """Its own counts by the value of a label, summed over the others; ``routes`` leaves out those of others."""
        found: dict[str, float] = {}
        for line in self.get("/metrics").splitlines():
            match = _SAMPLE.match(line)
            if match is None or match[1] != metric:
                continue
            labels = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
            if not routes or labels.get("route") in routes:
                key = labels.get(label, "")
                found[key] = found.get(key, 0.0) + float(match[3])
        return found

    def stop(self) -> bool:
        """End it as an init system does; whether it ended well and told no failure."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        return code in (0, -signal.SIGTERM) and "Traceback" not in self.log.read_text(encoding="utf-8")


def two_cores() -> tuple[int, int]:
    """The server's and the client's core; raises NotRunError where there are not two."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        raise NotRunError("needs two cores, one for the server and one for its clients, on Linux")
    return cores[SERVER_CORE], cores[CLIENT_CORE]


def are_threads_of_one(first: int, second: int) -> bool:
    """Whether two cores, as the system counts them, are one processor's core twice: then each slows the other."""
    siblings = Path(f"/sys/devices/system/cpu/cpu{first}/topology/thread_siblings_list")
    try:
        places = re.findall(r"(\d+)(?:-(\d+))?", siblings.read_text(encoding="utf-8"))
    except OSError:
        return False
    return any(int(low) <= second <= int(high or low) for low, high in places)


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Processes begun inside run on this core alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def serving(bundle: Path, *, core: int, options: Sequence[str] = ()) -> Iterator[Server]:
    """A server on a core, with one thread for the graph; killed at the end if it still runs."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "pangu_cv.cli", "serve", str(bundle), "--port", str(port), "--threads", "1"]
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        with log.open("wb") as stream, on_core(core):
            process = subprocess.Popen([*command, *options], stdout=stream, stderr=stream, env=code_paths())
        server = Server(process, port, bundle.resolve().name, log)
        try:
            _wait(server)
            yield server
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def _wait(server: Server) -> None:
    end = time.monotonic() + _READY_S
    while time.monotonic() < end:
        if server.process.poll() is not None:
            break
        try:
            server.get("/v2/health/ready")
        except (OSError, urllib.error.URLError):
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the server did not start: {server.log.read_text(encoding='utf-8')[-2000:]}")
