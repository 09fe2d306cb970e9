"""The socket the server listens on."""

import asyncio
import socket
import threading
import time
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


def test_a_head_that_never_ends_is_hung_up_on_and_others_are_answered(classify: Made) -> None:
    listening = listen("127.0.0.1", 0)
    server = server_of([classify.bundle], ServeConfig(reload_s=0, threads=1, head_timeout_s=0.5))
    thread = threading.Thread(target=lambda: server.run(sockets=[listening]), daemon=True)
    thread.start()
    host, port = listening.getsockname()[:2]
    health = f"http://{host}:{port}/v2/health/ready"
    while not server.started:
        time.sleep(0.05)
    with socket.create_connection((host, port)) as slow, socket.create_connection((host, port)) as kept:
        slow.sendall(b"POST /models/bundle/predict HTTP/1.1\r\nhost: x\r\nx-slow: ")
        request = b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n"
        kept.sendall(request)
        assert kept.recv(65536).startswith(b"HTTP/1.1 200")
        slow.settimeout(5)
        assert slow.recv(100) == b""  # hung up
        kept.sendall(request)  # an idle connection is no late head
        assert kept.recv(65536).startswith(b"HTTP/1.1 200")
        kept.sendall(request[:20])
        kept.settimeout(5)
        assert kept.recv(100) == b""
    with urlopen(health) as reply:
        assert reply.status == 200
    server.should_exit = True
    thread.join(10)
