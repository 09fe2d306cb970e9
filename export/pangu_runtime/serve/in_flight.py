"""How many bytes all requests together may hold; what does not fit is refused at once instead of filling the memory."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pangu_runtime.serve.protocol import RequestError


class InFlight:
    """A budget of bytes; safe to use from many threads."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._held = most_bytes, 0
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Bytes held now."""
        return self._held

    def hold(self, count: int) -> Callable[[], None]:
        """Hold so many bytes until what is given back is called.

        Raises RequestError 429 where they are not free, 413 where they never could be.
        """
        if count > self._most:
            told = f"the request needs {count} bytes of memory; {self._most} may be used in all (--max-memory-mb)"
            raise RequestError(413, told)
        with self._lock:
            if self._held + count > self._most:
                raise RequestError(429, "the server is busy: its memory is in use by other requests; try again")
            self._held += count

        def release() -> None:
            with self._lock:
                self._held -= count

        return release

    @contextmanager
    def reserve(self, count: int) -> Iterator[None]:
        """``hold`` for a block."""
        release = self.hold(count)
        try:
            yield
        finally:
            release()


class HeldResponse(Response):
    """An answer that counts as held until the client has taken it."""

    def __init__(self, content: bytes, *, headers: Mapping[str, str], release: Callable[[], None]) -> None:
        super().__init__(content, headers=headers)
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, as ASGI asks."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": self.body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})  # the server waits here until the line is free
        finally:
            self._release()
