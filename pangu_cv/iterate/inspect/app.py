"""FiftyOne's App in a process of its own, on this machine unless another address is asked for."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO
from urllib.parse import quote

from pangu_cv.errors import RuntimeLimitError

_START_S = 180  # it imports a lot, and a busy machine takes its time
# FIFTYONE_SERVER: as FiftyOne's own launcher does; it must be set before anything is imported.
_ENVIRONMENT = {"FIFTYONE_SERVER": "1", "FIFTYONE_DO_NOT_TRACK": "true"}


@contextmanager
def app(dataset: str, *, port: int = 5151, address: str = "127.0.0.1") -> Iterator[str]:
    """The address of the dataset in the App, which runs until the block ends.

    Call after ``open_fiftyone``: the process finds the same MongoDB. Raises RuntimeLimitError where it cannot start.
    """
    _require_free(address, port)
    command = [sys.executable, "-W", "ignore", "-m", "fiftyone.server.main", "--port", str(port), "--address", address]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env=os.environ | _ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            host = "127.0.0.1" if address in ("0.0.0.0", "localhost") else address
            base = f"http://{host}:{port}"
            _wait(process, base)
            yield f"{base}/datasets/{quote(dataset, safe='')}"
            if process.poll() is not None:
                raise RuntimeLimitError(f"the App ended by itself: {_tail(log)}")
        except _EndedError:
            raise RuntimeLimitError(f"the App does not start on port {port}: {_tail(log)}") from None
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class _EndedError(Exception):
    """It did not come up."""


def _wait(process: subprocess.Popen[bytes], base: str) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise _EndedError
        try:
            with urllib.request.urlopen(f"{base}/fiftyone", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
    raise _EndedError


def _require_free(address: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise RuntimeLimitError(
                f"the App cannot listen at {address}:{port} ({error.strerror}); name another with --port or --address"
            ) from None


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"
