"""The socket the server listens on."""

import asyncio
import socket

import pytest

pytest.importorskip("uvicorn")

from pangu_runtime.serve.server import listen


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
