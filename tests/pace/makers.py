"""Claims and outcomes for tests of the pace, without a database."""

import uuid
from datetime import UTC, datetime, timedelta

from email_gateway.mail.deliveries import COMMON_LANE, Claim, Claims, Outcome, Scope, Verdict

TENANT = uuid.UUID(int=1)


def make_claims(
    *domains: str, tenant_id: uuid.UUID = TENANT, sender: str = "acme.example", lane: str = COMMON_LANE
) -> Claims:
    """Claims of one message to somebody at each of these domains."""
    message_id, now = uuid.uuid4(), datetime.now(UTC)
    return Claims(
        tenant_id=tenant_id,
        message_id=message_id,
        created_at=now,
        expires_at=now + timedelta(days=5),
        on_doubt="resend",
        sealed=None,
        attachment_count=0,
        each=tuple(
            Claim(tenant_id, message_id, recipient, domain, uuid.uuid4(), 1)
            for recipient, domain in enumerate(domains or ("example.net",))
        ),
        sender_domain=sender,
        lane=lane,
    )


def outcomes(claims: Claims, verdict: Verdict, reason: str, scope: Scope, **more: object) -> list[Outcome]:
    """The same outcome for each claim; `code` is what the server said, if it did."""
    return [
        Outcome(claim, verdict, str(more.get("stage", "dot")), reason, code=more.get("code"), scope=scope)  # type: ignore[arg-type]
        for claim in claims.each
    ]


def delivered(claims: Claims) -> list[Outcome]:
    """A 250 for everybody."""
    return outcomes(claims, Verdict.DELIVERED, "accepted", Scope.RECIPIENT, code=250)
