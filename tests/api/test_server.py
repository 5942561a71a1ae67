import asyncio
import signal
import socket
from contextlib import suppress
from typing import Any

import httpx
import pytest

from email_gateway.api.server import ApiServer, make_server

pytestmark = pytest.mark.anyio


KEPT = 16


class SlowApp:
    """Answers each request once it is told to."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
            return
        self.asked.set()
        await self.answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


async def start(app: Any, listener: socket.socket) -> tuple[ApiServer, "asyncio.Task[None]"]:
    server = make_server(app)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.005)
    return server, task


async def test_stopping_answers_what_was_asked_and_takes_no_more() -> None:
    app = SlowApp()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server, task = await start(app, listener)
        async with httpx.AsyncClient() as client:
            asked = asyncio.create_task(client.get(url))
            await app.asked.wait()
            server.stop()
            app.answer.set()
            assert (await asked).status_code == 200
            await task
            with pytest.raises(httpx.ConnectError):
                await client.get(url)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[bytes, bytes]:
    """Send a request on a kept connection; return the status and the answer's head."""
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    return head.split(b" ")[1], head.lower()


async def test_no_request_on_a_kept_connection_is_lost_in_a_stop() -> None:
    app = SlowApp()
    app.answer.set()

    async def keep_asking(port: int) -> list[bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        statuses = []
        while True:
            status, head = await ask(reader, writer)
            statuses.append(status)
            if b"connection: close" in head:
                writer.close()
                return statuses

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server, task = await start(app, listener)
        clients = [asyncio.create_task(keep_asking(listener.getsockname()[1])) for _ in range(KEPT)]
        await asyncio.sleep(0.2)
        server.stop()
        async with asyncio.timeout(5):
            statuses = await asyncio.gather(*clients)
            await task
    assert {status for each in statuses for status in each} == {b"200"}
    assert all(len(each) > 1 for each in statuses)


async def test_a_connection_that_is_quiet_while_the_process_stops_is_told_503() -> None:
    app = SlowApp()
    app.answer.set()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server, task = await start(app, listener)
        address = listener.getsockname()
        kept, unused = await asyncio.open_connection(*address), await asyncio.open_connection(*address)
        assert (await ask(*kept))[0] == b"200"
        server.stop()
        for reader, writer in (kept, unused):
            async with asyncio.timeout(5):
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert head.startswith(b"http/1.1 503 ")
            assert b"retry-after: 1\r\n" in head
            assert b"connection: close\r\n" in head
            with suppress(ConnectionError):
                # A request that crosses it is read and dropped, so that no reset overtakes the answer.
                writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                assert b"503" in await reader.read()
            writer.close()
        async with asyncio.timeout(5):
            await task


async def test_a_request_that_takes_longer_than_the_process_has_is_told_503() -> None:
    app = SlowApp()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server, task = await start(app, listener)
        server.give_up_seconds = 0.3
        kept = await asyncio.open_connection(*listener.getsockname())
        asked = asyncio.create_task(ask(*kept))
        await app.asked.wait()
        server.stop()
        status, head = await asked
        assert status == b"503"
        assert b"retry-after: 1\r\n" in head
        app.answer.set()
        kept[1].close()
        await task


async def test_a_second_stop_does_not_wait_for_anyone() -> None:
    app = SlowApp()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server, task = await start(app, listener)
        async with httpx.AsyncClient() as client:
            asked = asyncio.create_task(client.get(f"http://127.0.0.1:{listener.getsockname()[1]}"))
            await app.asked.wait()
            server.stop()
            server.stop()
            await task
            app.answer.set()
            await asyncio.gather(asked, return_exceptions=True)


async def test_serving_leaves_the_processs_signal_handlers_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server, task = await start(SlowApp(), listener)
        assert signal.getsignal(signal.SIGTERM) is before
        server.stop()
        await task
