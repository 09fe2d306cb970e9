"""Runs the application until it is told to stop; requests that are being answered are finished first."""

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

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
        http=_hasty(config.head_timeout_s, config.send_timeout_s),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_S,
    )
    return uvicorn.Server(settings)


def _hasty(head_timeout_s: float, send_timeout_s: float) -> type[asyncio.Protocol]:
    """uvicorn's protocol, which closes connections whose next request has begun and does not arrive, or whose answer
    is not taken."""

    class Hasty(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
        _closing: asyncio.TimerHandle | None = None
        _giving_up: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._expect_head()

        def data_received(self, data: bytes) -> None:
            if self._closing is None and not self._is_answering():
                self._expect_head()
            super().data_received(data)
            if self._is_answering():
                self._head_is_there()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_is_there()
            self._is_taken()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._expect_progress()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._is_taken()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._head_is_there()

        def _is_answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _expect_head(self) -> None:
            self._closing = self.loop.call_later(head_timeout_s, self.transport.close)

        def _expect_progress(self) -> None:
            self._is_taken()
            left = self.transport.get_write_buffer_size()
            self._giving_up = self.loop.call_later(send_timeout_s, self._give_up, left)

        def _give_up(self, left: int) -> None:
            if self.transport.get_write_buffer_size() < left:
                self._expect_progress()
            else:
                self.transport.abort()  # to close would wait for the client

        def _is_taken(self) -> None:
            if self._giving_up is not None:
                self._giving_up.cancel()
                self._giving_up = None

        def _head_is_there(self) -> None:
            if self._closing is not None:
                self._closing.cancel()
                self._closing = None

    return Hasty
