"""A MongoDB of one's own, on this machine only, that ends with the block."""

import importlib.util
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def find() -> Path | None:
    """The one beside FiftyOne, None where that or FiftyOne is not installed."""
    found = importlib.util.find_spec("fiftyone")
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / "db" / "bin" / "mongod"
    return path if path.is_file() else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(binary: Path, folder: Path) -> Iterator[str]:
    """Its address; data stay in ``folder``. Raises RuntimeError where it does not start."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [str(binary), "--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1"]
    options = ["--nounixsocket", "--wiredTigerCacheSizeGB", "0.25", "--quiet"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port, process)
        yield f"mongodb://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"MongoDB does not start (exit code {process.poll()})")
