"""What every test may rely on: no network, caches that are thrown away, and the shared real images where they are."""

import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.finetune.tiny import Made

SHARED = Path(__file__).parents[2] / "shared"
_LOOPBACK = ("127.", "::1", "localhost")


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is imported: libraries read these once, and subprocesses inherit them."""
    scratch = tempfile.mkdtemp(prefix="pangu_cv_tests_")
    config.add_cleanup(lambda: shutil.rmtree(scratch, ignore_errors=True))
    for name in ("PANGU_CV_CACHE", "XDG_CACHE_HOME", "HF_HOME", "MPLCONFIGDIR"):
        os.environ[name] = str(Path(scratch) / name.lower())
    if hasattr(config, "workerinput"):
        os.environ["OMP_NUM_THREADS"] = "1"  # one process a core
    else:
        os.environ["PANGU_CV_TESTS_MADE"] = str(Path(scratch) / "made")  # runs that all processes share
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    for name in ("PANGU_CV_WEIGHTS", "HF_HUB_CACHE"):  # a developer's own weights must not decide a test
        os.environ.pop(name, None)


class NetworkUseError(RuntimeError):
    """A test reached for the network."""


def _refuse_remote(address: Any) -> None:
    host = address[0] if isinstance(address, tuple) else None  # a Unix socket's address is a path
    if host is not None and not str(host).startswith(_LOOPBACK):
        raise NetworkUseError(f"tests use no network, and this one wanted {host}")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect, connect_ex, sendto, lookup = (
        socket.socket.connect,
        socket.socket.connect_ex,
        socket.socket.sendto,
        socket.getaddrinfo,
    )

    def guarded_connect(self: socket.socket, address: Any) -> None:
        _refuse_remote(address)
        return connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        _refuse_remote(address)
        return connect_ex(self, address)

    def guarded_sendto(self: socket.socket, data: Any, *rest: Any) -> int:
        _refuse_remote(rest[-1])
        return sendto(self, data, *rest)

    def guarded_lookup(host: Any, *rest: Any, **options: Any) -> Any:
        _refuse_remote((host.decode() if isinstance(host, bytes) else host,))
        return lookup(host, *rest, **options)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket.socket, "sendto", guarded_sendto)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_lookup)


@pytest.fixture(scope="session")
def classify() -> "Made":
    """A classifier of two colours, exported; read only."""
    return _made("classify")


@pytest.fixture(scope="session")
def precise() -> "Made":
    """The classifier of two colours, exported in fp32, fp16 and int8; read only."""
    return _made("precise")


@pytest.fixture(scope="session")
def unknown() -> "Made":
    """A classifier of two colours that may answer "unknown", exported; its test images show a third one too."""
    return _made("unknown")


@pytest.fixture(scope="session")
def multilabel() -> "Made":
    """A tagger of light and dark bars, exported; read only."""
    return _made("multilabel")


@pytest.fixture(scope="session")
def anomaly() -> "Made":
    """An anomaly detector of 20 normal images, exported; read only."""
    return _made("anomaly")


@pytest.fixture(scope="session")
def segment() -> "Made":
    """A segmenter of bright stripes, exported; read only."""
    return _made("segment")


@pytest.fixture(scope="session")
def detect() -> "Made":
    """A detector of bright and dark squares, exported; read only."""
    return _made("detect")


def _made(kind: str) -> "Made":
    from tests.finetune import tiny  # brings torch in, which tests of the torch-free base do without

    return tiny.made(kind)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the repository; skips where it is not."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """The folder of real weights beside the repository; skips where it is not."""
    return _shared("weights")


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"no shared {name} beside the repository")
    return folder
