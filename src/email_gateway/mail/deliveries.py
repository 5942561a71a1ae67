"""What a worker holds and what came of it: claims, phases, outcomes."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID


class State(StrEnum):
    """Where a delivery stands. `queued` and `sending` are unfinished, the others final."""

    QUEUED = "queued"
    SENDING = "sending"
    DELIVERED = "delivered"
    KEPT = "kept"
    BOUNCED = "bounced"
    EXPIRED = "expired"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"
    DEAD = "dead"


class Phase(StrEnum):
    """How far an attempt came, in order. Death before `dot_pending` sends nothing twice.

    Only before `composed` can a message be what kills its worker; after it the worker waits for servers.
    """

    CLAIMED = "claimed"
    COMPOSING = "composing"  # only noted of a suspect, which is composed alone
    COMPOSED = "composed"
    CONNECTED = "connected"
    RCPT_OK = "rcpt_ok"
    DOT_PENDING = "dot_pending"


class Verdict(StrEnum):
    """What one attempt came to for one recipient."""

    DELIVERED = "delivered"  # the server took responsibility (RFC 5321 section 6.1)
    KEPT = "kept"  # nobody was asked: this gateway keeps mail instead of sending it
    COMPLAINED = "complained"  # taken, and then called unwanted
    BOUNCED = "bounced"  # the server refused this recipient or this message for good
    DEFERRED = "deferred"  # try again later: the destination's trouble, or ours
    HELD = "held"  # the route, the destination or the sender must wait: this attempt does not count
    IN_DOUBT = "in_doubt"  # the dot was written and no reply came (RFC 1047)
    SUPPRESSED = "suppressed"  # nobody was asked: the address is on the tenant's suppression list
    UNREADABLE = "unreadable"  # the sealed content does not open: an operator must look


# The queue that a delivery stands in. Besides these two there is one for each destination and each
# sender that is slowed or held.
COMMON_LANE = ""
SUSPECT_LANE = "suspect"  # outlived a worker, and is composed alone: it may be what kills them
# Mail to this domain is answered by the worker. Its lane keeps it from waiting for a route that it does not take. The
# queries of `accept` and `claim` know both.
SIMULATOR_DOMAIN = "simulator.example"
SIMULATOR_LANE = "simulator"
SIMULATED = "simulated"  # the reason of whatever becomes of it


def destination_lane(domain: str) -> str:
    """Name the lane of mail for one domain."""
    return f"to:{domain}"


def sender_lane(tenant_id: UUID, domain: str) -> str:
    """Name the lane of one tenant's mail from one domain."""
    return f"from:{tenant_id}/{domain}"


class Scope(StrEnum):
    """What a server's words speak of. Only the first two may end a delivery; the others let it wait."""

    RECIPIENT = "recipient"  # this address
    MESSAGE = "message"  # this content, whoever receives it
    SENDER = "sender"  # this reverse-path, or the right to use it
    DESTINATION = "destination"  # the recipients' domain
    ROUTE = "route"  # the server that we hand mail to
    OURS = "ours"  # us: our credentials, our account, our address, our settings


class Hardness(StrEnum):
    """Whether trying again can help. What is hard about a recipient is a reason to suppress it."""

    HARD = "hard"
    SOFT = "soft"


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's timed hold on one delivery (one message to one recipient).

    `recipient` is the position in the content's envelope. Every write about the delivery is
    fenced by `token`; `attempt` counts from 1 and is counted when the claim is made.
    """

    tenant_id: UUID
    message_id: UUID
    recipient: int
    domain: str
    token: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class Claims:
    """The held deliveries of one message, sent in one conversation, with what they share.

    `sealed` is None for a large content, which is read when it is needed. `at_expiry` is what a
    delivery becomes that cannot be delivered before `expires_at`: dead, for an operator to see,
    or expired when the caller chose the time. `is_expired` is the database's word on it, and
    `is_fresh` on whether it was accepted just now. `lane` is
    the queue they were taken from. `created_at` of a scheduled message is when it was to leave.
    """

    tenant_id: UUID
    message_id: UUID
    created_at: datetime
    expires_at: datetime
    on_doubt: str
    sealed: bytes | None
    attachment_count: int
    each: tuple[Claim, ...]
    at_expiry: State = State.DEAD
    is_expired: bool = False
    is_fresh: bool = False
    sender_domain: str = ""
    lane: str = COMMON_LANE

    def __len__(self) -> int:
        return len(self.each)

    @property
    def is_simulated(self) -> bool:
        """Whether they are for the simulator: claims for it and for others are never held together."""
        return self.each[0].domain == SIMULATOR_DOMAIN


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt came to for one claim.

    `stage` names the SMTP command that was answered (connect, ehlo, starttls, auth, mail, rcpt,
    data, dot). `reply` is the server's text: servers echo addresses, so it is kept sealed only
    and stays out of `repr`. `scope` is what the server spoke of. `wait` lets a held delivery stand
    back for so long; without it, it keeps its place. `is_hard` is said of a dead address.
    """

    claim: Claim
    verdict: Verdict
    stage: str
    reason: str
    code: int | None = None
    enhanced: str | None = None
    reply: str | None = None
    scope: Scope = Scope.RECIPIENT
    wait: timedelta | None = None
    is_hard: bool = False

    def __repr__(self) -> str:
        return f"Outcome({self.verdict}, stage={self.stage}, reason={self.reason}, code={self.code})"
