"""Who may open and compose messages now: many at once, or one suspect alone.

A message that kills its worker does so while it is opened and composed; afterwards only servers are
waited for. So what outlived a dead worker is composed while nothing else is: if the worker dies
again, nobody else can have been the cause, and nobody else is blamed.
"""

import asyncio
from collections.abc import Callable

from email_gateway.mail.deliveries import SUSPECT_LANE, Claims


class Composing:
    """Enter before a message is opened; leave when it is composed, or when its attempt is over."""

    def __init__(self) -> None:
        self._inside: set[int] = set()
        self._suspect: Claims | None = None
        self._waiting: list[asyncio.Future[None]] = []

    async def enter(self, claims: Claims) -> None:
        """Wait until these may be composed: after a suspect, or for a suspect until it is alone."""
        await self._until(lambda: self._suspect is None)
        if claims.lane == SUSPECT_LANE:
            self._suspect = claims  # from here on nobody else comes in
            await self._until(lambda: not self._inside)
        else:
            self._inside.add(id(claims))

    def leave(self, claims: Claims) -> None:
        """Let others in. Leaving twice, or without having entered, does nothing."""
        self._inside.discard(id(claims))
        if claims is self._suspect:
            self._suspect = None
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future
