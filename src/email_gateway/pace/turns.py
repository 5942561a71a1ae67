"""A turn: one attempt's place in the line before its route, destinations and sender."""

import asyncio
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from email_gateway.mail.deliveries import COMMON_LANE, Claims, destination_lane, sender_lane

if TYPE_CHECKING:
    from email_gateway.pace.route import Pace


class NotYet(Exception):
    """The turn does not come soon: give the claims back, so that they keep their place and others go."""


class Turn:
    """Stand in line with `async with`: entered when the attempt may begin, or NotYet is raised."""

    def __init__(self, pace: "Pace", claims: Claims) -> None:
        self._pace = pace
        self._entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.claims = claims
        self.since = time.monotonic()
        self.began: float | None = None
        self.start_at: float | None = None  # as the fleet's shared count allows it
        self.probes: set[str] = set()  # the held lanes that this attempt tries
        self.lanes = (
            COMMON_LANE,
            *dict.fromkeys(destination_lane(claim.domain) for claim in claims.each),
            sender_lane(claims.tenant_id, claims.sender_domain),
        )

    @property
    def is_waiting(self) -> bool:
        return not self._entered.done()

    def begin(self, now: float) -> None:
        """Let the attempt begin."""
        self.began = now
        self._entered.set_result(None)

    def give_up(self) -> None:
        """Leave the line without an attempt."""
        self._entered.cancel()
        self._pace.leave(self)

    def refuse(self) -> None:
        """Send the attempt away."""
        self._entered.set_exception(NotYet())

    async def __aenter__(self) -> Self:
        try:
            await self._entered
        except BaseException:
            self._pace.leave(self)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pace.leave(self)
