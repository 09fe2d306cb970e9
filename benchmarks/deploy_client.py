"""A client with little of its own: HTTP/1.1 on a plain connection, requests prepared as bytes, many at once."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.deploy_server import HOST

BINARY_HEADER = "Inference-Header-Content-Length"
BUSY = 429
NO_ANSWER = -1
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Request:
    """Bytes to send. ``cut_at`` is how many of them are sent before the line is cut; None sends them all."""

    raw: bytes
    cut_at: int | None = None


@dataclass(frozen=True)
class Answer:
    """``status`` 0: the line was cut before an answer came, -1: none came in time.

    ``waits`` is how often the server said "later" before.
    """

    status: int
    body: bytes = b""
    retry_after_s: float = 1.0
    waits: int = 0


class Line:
    """One connection, opened again where it was closed; one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: Request) -> Answer:
        """The answer; of a request that is cut off there is none to wait for."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(HOST, self._port, limit=2**20)
        try:
            self._writer.write(request.raw[: request.cut_at])
            await self._writer.drain()
            if request.cut_at is not None:
                self.close()
                return Answer(0)
            return await asyncio.wait_for(self._answer(), _PATIENCE_S)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.close()
            return Answer(0)
        except TimeoutError:
            self.close()
            return Answer(NO_ANSWER)

    async def ask_patiently(self, request: Request) -> Answer:
        """The same; where the server is busy (429) again after the time it names."""
        waits = 0
        while (answer := await self.ask(request)).status == BUSY:
            waits += 1
            await asyncio.sleep(answer.retry_after_s)
        return replace(answer, waits=waits)

    async def _answer(self) -> Answer:
        assert self._reader is not None
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        status = int(first.split()[1])
        # A body that was refused was not read; what came next on this line would be taken for the rest of it.
        if headers.get("connection") == "close" or status in (408, 413):
            self.close()
        return Answer(status, body, float(headers.get("retry-after", "1")))

    def close(self) -> None:
        """Let go of the connection."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


def post(path: str, body: bytes, headers: Mapping[str, object] | None = None, *, length: int | None = None) -> bytes:
    """A request; ``length`` is what it says of its body, where that is not the truth."""
    said = {"Host": HOST, "Content-Length": len(body) if length is None else length, **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def post_in_chunks(path: str, body: bytes, *, chunk: int = 65_536) -> bytes:
    """A request that does not say how long it is."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    parts = [body[at : at + chunk] for at in range(0, len(body), chunk)]
    return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def infer(name: str, images_NHW3: NDArray[np.uint8], *, stated_bytes: int | None = None) -> bytes:
    """A request of the Open Inference Protocol v2: a binary tensor in, label and scores as JSON out."""
    blob = images_NHW3.tobytes()
    size = len(blob) if stated_bytes is None else stated_bytes
    image = {"name": "image", "datatype": "UINT8", "shape": list(images_NHW3.shape)}
    image["parameters"] = {"binary_data_size": size}
    head = json.dumps({"inputs": [image], "outputs": [{"name": "label"}, {"name": "scores"}]}).encode()
    return post(f"/v2/models/{name}/infer", head + blob, {BINARY_HEADER: len(head)})


def predict(name: str, file: bytes) -> bytes:
    """A request with an image file."""
    return post(f"/models/{name}/predict", file, {"Content-Type": "application/octet-stream"})
