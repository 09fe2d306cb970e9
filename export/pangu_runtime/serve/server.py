"""Runs the application until it is told to stop; requests that are being answered are finished first."""

import socket
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from pangu_runtime.serve.app import App
from pangu_runtime.serve.config import ServeConfig
from pangu_runtime.serve.metrics import Metrics
from pangu_runtime.serve.shelf import Shelf

BACKLOG = 2048  # connections that the system holds until they are taken
_GRACE_S = 30


def listen(host: str, port: int) -> socket.socket:
    """A socket to ``run(sockets=[...])`` on; raises OSError or OverflowError.

    Answers leave at once: asyncio sets this itself, but not where it is given a socket whose protocol is unnamed, and
    then an answer's body waits 40 ms for the client to confirm its head.
    """
    listening = socket.create_server((host, port), backlog=BACKLOG)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # taken over by every connection
    return listening


def server_of(folders: Sequence[Path], config: ServeConfig) -> uvicorn.Server:
    """A server ready to ``run()``; raises PanguError for a bundle that cannot be used."""
    metrics = Metrics()
    shelf = Shelf(folders, config, on_batch=metrics.on_batch)
    settings = uvicorn.Config(
        App(shelf, config, metrics).starlette(),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_S,
    )
    return uvicorn.Server(settings)
