"""An HTTP client that sends at a steady pace, however slow the answers: `python -m bench.steady`.

Each mail goes over a connection of its own, so that no answer holds up the next. Reads the run as
JSON on standard input, prints each request's milliseconds, connection included.
"""

import asyncio
import json
import sys
from collections import deque
from functools import partial

from bench.load import Connection, email, request


async def run(port: int, api_key: str, per_second: int, count: int) -> list[float]:
    """Send `count` mails at this pace and return how long each took until its 202."""
    loop = asyncio.get_running_loop()
    requests = [request("/v1/emails", api_key, email(number)) for number in range(count)]
    begins = loop.time() + 0.1

    async def send(number: int) -> float:
        await asyncio.sleep(begins + number / per_second - loop.time())
        sent, answered = loop.time(), loop.create_future()
        _, connection = await loop.create_connection(
            partial(Connection, deque([requests[number]]), answered), "127.0.0.1", port
        )
        await answered
        if set(connection.statuses) != {b"202"}:
            raise RuntimeError(f"a mail was not accepted: {connection.statuses}")
        return (loop.time() - sent) * 1000

    return await asyncio.gather(*map(send, range(count)))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(**json.load(sys.stdin)))))
