import asyncio
import signal
import socket
from typing import Any

import httpx
import pytest

from email_gateway.api.server import ApiServer, make_server

pytestmark = pytest.mark.anyio


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
