"""One tenant that weighs as much as it can, until its standard input ends: `python -m bench.greedy`.

Reads its plan as one line of JSON, says `begun`, and at the end prints how often it was answered what.
"""

import asyncio
import base64
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Coroutine

from bench.load import request

MIB = 1024 * 1024
FILE_BYTES = 29 * MIB
SLOW_CONNECTIONS = 1000
DRIPS = 5
DRIP_EVERY = 5.0
COME_WITHIN = 4.0  # they have come before anything is measured
RETRY_AFTER = 1.0  # as a 503 asks for

Statuses = Counter[str]


def mail(**fields: object) -> dict[str, object]:
    """A small mail with something more."""
    return {"from": "a@acme.example", "to": "b@example.net", "subject": "x", "text": "x"} | fields


async def post_again_and_again(port: int, body: bytes, statuses: Statuses) -> None:
    """Send one request after the other, each over a connection of its own, as fast as they are answered."""
    while True:
        reading, writing = await asyncio.open_connection("127.0.0.1", port)
        writing.write(body)
        answer = await reading.read(64)
        writing.close()
        status = answer[9:12].decode()
        statuses[status] += 1
        if status == "503":
            await asyncio.sleep(RETRY_AFTER)


async def drip(port: int, head: bytes, statuses: Statuses) -> None:
    """Announce a body and hardly send it; cut off, begin anew. They come one after the other, as callers do."""
    while True:
        await asyncio.sleep(random.uniform(0, COME_WITHIN))
        reading, writing = await asyncio.open_connection("127.0.0.1", port)
        writing.write(head)
        answered = asyncio.create_task(reading.read(64))
        while not answered.done():
            writing.write(b" ")
            await asyncio.wait((answered,), timeout=DRIP_EVERY)
        statuses[(await answered)[9:12].decode()] += 1
        writing.close()


def files(port: int, api_key: str, statuses: Statuses) -> list[Coroutine[None, None, None]]:
    """Two clients that post 29 MiB each."""
    content = base64.b64encode(os.urandom(FILE_BYTES)).decode()
    body = request("/v1/emails", api_key, mail(attachments=[{"filename": "a.pdf", "content": content}]))
    return [post_again_and_again(port, body, statuses) for _ in range(2)]


def weights(port: int, api_key: str, statuses: Statuses) -> list[Coroutine[None, None, None]]:
    """Five drips, a thousand slow connections, and bodies of 55 MiB that decode into a map or a list of numbers."""
    head = request("/v1/emails", api_key, None)[: -len(b"null")].replace(
        b"Content-Length: 4", b"Content-Length: %d" % (55 * MIB)
    )
    headers = b",".join(b'"h%d":""' % number for number in range(4_000_000))
    bombs = [
        b'{"from":"a@acme.example","to":"b@example.net","subject":"x","text":"x","headers":{' + headers + b"}}",
        b'{"attachments":[{"filename":"a","content":[' + b"7," * (27 * MIB) + b"7]}]}",
    ]
    posts = [head.replace(b"%d" % (55 * MIB), b"%d" % len(bomb)) + bomb for bomb in bombs]
    return [
        *(drip(port, head, statuses) for _ in range(DRIPS + SLOW_CONNECTIONS)),
        *(post_again_and_again(port, post, statuses) for post in posts),
    ]


KINDS: dict[str, Callable[[int, str, Statuses], list[Coroutine[None, None, None]]]] = {
    "files": files,
    "weights": weights,
}


async def main() -> None:
    """Weigh until standard input ends."""
    plan = json.loads(sys.stdin.readline())
    statuses: Statuses = Counter()
    tasks = [asyncio.create_task(one) for one in KINDS[plan["kind"]](plan["port"], plan["api_key"], statuses)]
    print("begun", flush=True)
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait((ended, *tasks), return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    failed = [one for one in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(one, OSError)]
    print(json.dumps({"answers": statuses, "lost": len(failed)}))


if __name__ == "__main__":
    asyncio.run(main())
