"""The seam of the room: what is sent, what sends it, and how it says how far it came."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from email_gateway.mail.deliveries import Claims, Outcome, Phase

# Records how far an attempt came and returns the monotonic time until which it may go on. For
# `dot_pending` it commits, and raises ClaimLost when a claim is held no more.
Reached = Callable[[Claims, Phase], Awaitable[float]]

# Above this much, composing, sealing and dot-stuffing would hold up the event loop for milliseconds.
LARGE_OCTETS = 64 * 1024


@dataclass(frozen=True, slots=True)
class OutgoingMail:
    """One message in clear with its envelope; `recipients` are the addresses of `claims.each`, in order."""

    claims: Claims
    sender: str = field(repr=False)
    recipients: tuple[str, ...] = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def is_international(self) -> bool:
        """Whether a server must know SMTPUTF8 to take it for anybody: bodies are ASCII, addresses in the head may not be."""
        return not (self.raw.isascii() and self.sender.isascii())


class Transport(Protocol):
    """A way for mail to leave. Between `reached(DOT_PENDING)` and the answer the mail is in doubt."""

    async def send(self, mail: OutgoingMail, reached: Reached) -> list[Outcome]:
        """Return one outcome for each claim of the mail, in their order.

        Raises only what `reached` raises, after everything was dropped that could still send.
        """
        ...

    async def close(self) -> None:
        """Close what is open; nothing is sent afterwards."""
        ...
