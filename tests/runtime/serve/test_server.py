"""The socket the server listens on."""

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

pytest.importorskip("uvicorn")

from pangu_runtime.serve.config import ServeConfig
from pangu_runtime.serve.server import listen, server_of
from tests.finetune.tiny import Made


def test_answers_leave_at_once_on_every_connection() -> None:
    """Where small packets are held back, an answer's body waits 40 ms for its head to be confirmed."""
    found: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken = writer.get_extra_info("socket")
        found.append(taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async def main() -> None:
        with listen("127.0.0.1", 0) as listening:
            server = await asyncio.start_server(serve, sock=listening)
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            await reader.read()
            writer.close()
            server.close()

    asyncio.run(main())
    assert found == [1]


@contextmanager
def serving(folder: Path, **changes: Any) -> Iterator[tuple[str, int]]:
    listening = listen("127.0.0.1", 0)
    server = server_of([folder], ServeConfig(reload_s=0, threads=1, **changes))
    thread = threading.Thread(target=lambda: server.run(sockets=[listening]), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    try:
        yield listening.getsockname()[:2]
    finally:
        server.should_exit = True
        thread.join(10)


def large_answer(address: tuple[str, int], *, room: int) -> tuple[socket.socket, int]:
    """A connection that has asked for maps and has little room for the answer, and the bytes of those."""
    side, count = 600, 8
    pixels = bytes(count * side * side * 3)
    image = {"name": "image", "datatype": "UINT8", "shape": [count, side, side, 3]}
    image |= {"parameters": {"binary_data_size": len(pixels)}}
    head = json.dumps({"inputs": [image], "parameters": {"binary_data_output": True}}).encode()
    lines = f"host: x\r\ncontent-length: {len(head + pixels)}\r\ninference-header-content-length: {len(head)}"
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    line.connect(address)
    line.sendall(f"POST /v2/models/bundle/infer HTTP/1.1\r\n{lines}\r\n\r\n".encode() + head + pixels)
    line.settimeout(30)
    assert line.recv(100).startswith(b"HTTP/1.1 200")
    return line, count * side * side * 4


def held(address: tuple[str, int]) -> float:
    with urlopen("http://{}:{}/metrics".format(*address)) as reply:
        return float(re.search(r"(?m)^pangu_in_flight_bytes (\S+)", reply.read().decode())[1])


def test_an_answer_that_nobody_reads_is_held_and_then_cut_off(anomaly: Made) -> None:
    with serving(anomaly.bundle, send_timeout_s=2) as address:
        idle, size = large_answer(address, room=4096)
        assert held(address) >= size
        until = time.monotonic() + 10
        while held(address) and time.monotonic() < until:
            time.sleep(0.1)
        assert held(address) == 0
        idle.close()


def test_an_answer_that_is_read_slowly_arrives(anomaly: Made) -> None:
    with serving(anomaly.bundle, send_timeout_s=0.5) as address:
        slow, size = large_answer(address, room=2**17)
        got, start = 100, time.monotonic()
        while got < size:
            time.sleep(0.02)
            some = slow.recv(size // 100)
            assert some
            got += len(some)
        assert time.monotonic() - start > 1
        slow.close()


def test_a_head_that_never_ends_is_hung_up_on_and_others_are_answered(classify: Made) -> None:
    request = b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n"
    with serving(classify.bundle, head_timeout_s=0.5) as address:
        with socket.create_connection(address) as slow, socket.create_connection(address) as kept:
            slow.sendall(b"POST /models/bundle/predict HTTP/1.1\r\nhost: x\r\nx-slow: ")
            kept.sendall(request)
            assert kept.recv(65536).startswith(b"HTTP/1.1 200")
            slow.settimeout(5)
            assert slow.recv(100) == b""  # hung up
            kept.sendall(request)  # an idle connection is no late head
            assert kept.recv(65536).startswith(b"HTTP/1.1 200")
            kept.sendall(request[:20])
            kept.settimeout(5)
            assert kept.recv(100) == b""
        with urlopen("http://{}:{}/v2/health/ready".format(*address)) as reply:
            assert reply.status == 200
