"""A TCP connection to the first address of a host that answers."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import TypeVar

# RFC 8305 section 5, the Connection Attempt Delay: so long an address has for itself before the next one is tried too.
ATTEMPT_DELAY_SECONDS = 0.25

Address = tuple[str, int]
Protocol = TypeVar("Protocol", bound=asyncio.Protocol)


async def find_addresses(host: str, port: int) -> list[Address]:
    """Return the addresses of a host in the order of RFC 6724; raises OSError, or UnicodeError for what is no name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((str(sockaddr[0]), port) for *_, sockaddr in found))


async def connect_first(addresses: Sequence[Address], make: Callable[[], Protocol]) -> Protocol:
    """Return the protocol that `make` made for the first address that answers; raises OSError when none does.

    They are tried in order, the next one as soon as one refuses, or beside one that says nothing, so that
    a dead address costs a quarter of a second and not the attempt. uvloop does not do this itself.
    """
    loop = asyncio.get_running_loop()
    left, trying = list(addresses), set[asyncio.Task[tuple[asyncio.BaseTransport, Protocol]]]()
    refusal: BaseException = OSError("there is no address")
    try:
        while left or trying:
            if left:
                trying.add(loop.create_task(loop.create_connection(make, *left.pop(0))))
            done, trying = await asyncio.wait(
                trying, timeout=ATTEMPT_DELAY_SECONDS if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                if (error := task.exception()) is None:
                    trying |= done - {task}
                    return task.result()[1]
                refusal = error
        raise refusal
    finally:
        await _give_up(trying)


async def _give_up(trying: set["asyncio.Task[tuple[asyncio.BaseTransport, Protocol]]"]) -> None:
    for task in trying:
        task.cancel()
    for result in await asyncio.gather(*trying, return_exceptions=True):
        if not isinstance(result, BaseException):  # it answered a moment too late
            result[0].close()
