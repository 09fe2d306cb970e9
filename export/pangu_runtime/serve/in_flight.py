"""How many bytes all requests together may hold; what does not fit is refused at once instead of filling the memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

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

    @contextmanager
    def reserve(self, count: int) -> Iterator[None]:
        """Hold so many bytes; raises RequestError 429 where they are not free, 413 where they never could be."""
        if count > self._most:
            raise RequestError(413, f"the request needs {count} bytes of memory; {self._most} may be used in all")
        with self._lock:
            if self._held + count > self._most:
                raise RequestError(429, "the server is busy: its memory is in use by other requests; try again")
            self._held += count
        try:
            yield
        finally:
            with self._lock:
                self._held -= count
