"""One MongoDB for all tests here, on this machine only and with data that are thrown away; FiftyOne connected to it."""

import importlib.util
import os
import shutil
import socket
import subprocess
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def fiftyone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """FiftyOne with a real MongoDB; skips where either is not installed."""
    found = importlib.util.find_spec("fiftyone")
    mongod = Path(found.submodule_search_locations[0]) / "db" / "bin" / "mongod" if found else None
    if mongod is None or not mongod.is_file():
        pytest.skip("no fiftyone, or no MongoDB beside it")
    home, port = tmp_path_factory.mktemp("fiftyone"), free_port()
    (home / "db").mkdir()
    command = [str(mongod), "--dbpath", str(home / "db"), "--port", str(port), "--bind_ip", "127.0.0.1"]
    options = ["--nounixsocket", "--wiredTigerCacheSizeGB", "0.25", "--quiet"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    names = {
        "HOME": str(home),
        "FIFTYONE_DATABASE_URI": f"mongodb://127.0.0.1:{port}",
        "FIFTYONE_DATABASE_DIR": str(home / "db"),
        "FIFTYONE_DO_NOT_TRACK": "true",
        "FIFTYONE_LOGGING_LEVEL": "ERROR",
        "FIFTYONE_SHOW_PROGRESS_BARS": "false",
    }
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        _wait(port, process)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own dependencies
            import fiftyone as module

            module.list_datasets()
        yield module
    finally:
        process.terminate()
        process.wait(timeout=30)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(home, ignore_errors=True)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.skip(f"MongoDB does not start here (exit code {process.poll()})")
