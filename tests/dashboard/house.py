"""A dashboard as it is served: a real database, a real HTTP server, an operator's browser-like client."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any, cast
from uuid import UUID

import httpx
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from uuid_utils.compat import uuid7

from email_gateway.dashboard import DashboardContext, build_dashboard
from email_gateway.mail.content import Address, Content
from email_gateway.mail.deliveries import State
from email_gateway.secrets.secret import FROM_ENVIRONMENT, SECRETS
from email_gateway.secrets.standing import SecretStatus
from email_gateway.store.accepting import Acceptor, NewMessage
from email_gateway.store.database import Database
from email_gateway.vault.keyring import Keyring
from tests.makers import new_message, new_request

ADMIN_KEY = "the-admin-key-of-these-tests-0123456789"
OPERATOR = "Ana Operator"
HOSTILE = '"><img src=x onerror="alert(1)"><script>alert(2)</script>'


def status_of(version_id: str | None = FROM_ENVIRONMENT, **changes: Any) -> SecretStatus:
    """What a process knows of a secret that it has just read."""
    known: dict[str, Any] = {
        "version_id": version_id,
        "age_seconds": 3.0,
        "stale": False,
        "last_error": None,
        "last_error_code": None,
        "next_refresh_seconds": None,
        **changes,
    }
    return cast("SecretStatus", known)


@dataclass
class KeySecret:
    value: str = field(repr=False)


@dataclass
class KeySource:
    """The one fake: the admin key in force, the one before it, and what is known of the secrets of an environment."""

    value: str = ADMIN_KEY
    previous: str | None = None
    can_change: bool = False
    statuses: dict[str, SecretStatus] = field(default_factory=lambda: {known.name: status_of() for known in SECRETS})

    def status(self) -> dict[str, SecretStatus]:
        return self.statuses

    def admin_key_matches(self, candidate: str) -> bool:
        return candidate in (self.value, self.previous)

    def get(self, name: str) -> KeySecret:
        assert name == "admin-api-key"
        return KeySecret(self.value)


@dataclass
class House:
    """What a test holds: the served dashboard and what stands behind it."""

    db: Database
    keyring: Keyring
    tenant_id: UUID
    secrets: KeySource
    context: DashboardContext
    url: str = ""

    def client(self, **options: object) -> httpx.AsyncClient:
        """A browser without cookies that follows no redirect."""
        return httpx.AsyncClient(base_url=self.url, **options)  # type: ignore[arg-type]

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client that is logged in with the admin key."""
        async with self.client() as client:
            answer = await client.post("/dashboard/login", data={"operator": OPERATOR, "key": self.secrets.value})
            assert answer.status_code == 303, answer.text
            yield client

    async def audit(self) -> list[tuple[str, str, str | None]]:
        rows = await self.db.fetch("SELECT actor, action, reason FROM audit ORDER BY at")
        return [(row["actor"], row["action"], row["reason"]) for row in rows]


@asynccontextmanager
async def served(house: House) -> AsyncIterator[House]:
    """Serve the dashboard on a free port of the loopback address."""
    app = Starlette(routes=[Mount("/dashboard", app=build_dashboard(house.context))])
    with socket.create_server(("127.0.0.1", 0)) as listening:  # from here on connections wait in its queue
        server = Quiet(uvicorn.Config(app, log_config=None, proxy_headers=False, lifespan="off"))
        task = asyncio.create_task(server.serve(sockets=[listening]))
        house.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        yield house
        server.should_exit = server.force_exit = True
        await task


class Quiet(uvicorn.Server):
    """Leaves the signals to pytest."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


def content(**changes: object) -> Content:
    """A content to one person, with everything personal that a message can have."""
    made = Content(
        sender=Address("billing@acme.example", "Acme Billing"),
        envelope=("maria@example.com",),
        subject="Your invoice",
        to=(Address("maria@example.com", "Maria Silva"),),
        text="It is due on Friday.",
        person_name="Maria Silva",
        external_id="customer-77",
    )
    return msgspec.structs.replace(made, **changes)


async def add_message(
    house: House, mail: Content | None = None, *, tags: tuple[tuple[str, str], ...] = (), tax_id: bytes | None = None
) -> UUID:
    """Store a message as the API would."""
    mail = mail or content()
    keys = await house.keyring.tenant(house.tenant_id)
    message_id = uuid7()
    message: NewMessage = new_message(
        message_id=message_id,
        sealed_content=keys.seal("message.content", message_id, msgspec.msgpack.encode(mail)),
        sealed_tax_id=keys.seal("message.tax_id", message_id, tax_id) if tax_id else None,
        size=len(mail.text or ""),
        sender_domain=mail.sender.domain,
        domains=tuple(address.rpartition("@")[2] for address in mail.envelope),
        tags=tags,
    )
    acceptor = Acceptor(house.db)
    await acceptor.accept(new_request(house.tenant_id, message))
    await acceptor.close()
    return message_id


async def set_state(house: House, message_id: UUID, state: State, *, recipient: int = 0, reason: str = "") -> None:
    """Move a delivery to a final state."""
    await house.db.execute(
        "UPDATE delivery SET state = $3, next_attempt_at = NULL, finished_at = now(), attempts = 1, reason = $4,"
        " last_code = CASE WHEN $3 = 'delivered' THEN 250 ELSE 550 END"
        " WHERE tenant_id = $1 AND message_id = $2 AND recipient = $5",
        house.tenant_id,
        message_id,
        state.value,
        reason or None,
        recipient,
    )


async def add_event(house: House, message_id: UUID, kind: str, *, reply: str | None = None, recipient: int = 0) -> None:
    """Record a fact with the server's reply sealed."""
    event_id = uuid7()
    keys = await house.keyring.tenant(house.tenant_id)
    sealed = keys.seal("event.reply", event_id, reply.encode()) if reply else None
    await house.db.execute(
        "INSERT INTO event (tenant_id, message_id, event_id, recipient, kind, attempt, stage, reason, code, enhanced,"
        " sealed_reply) VALUES ($1, $2, $3, $4, $5, 1, $6, $7, $8, $9, $10)",
        house.tenant_id,
        message_id,
        event_id,
        recipient,
        kind,
        "rcpt" if reply else None,
        "unknown_recipient" if reply else None,
        550 if reply else None,
        "5.1.1" if reply else None,
        sealed,
    )


def raw_mail(
    *,
    subject: str = "Your invoice",
    html: str | None = None,
    text: str | None = "It is due on Friday.",
    files: tuple[tuple[str, str, bytes], ...] = (),
) -> bytes:
    """A mail as it crosses the wire."""
    mail = EmailMessage()
    mail["From"] = "Acme Billing <billing@acme.example>"
    mail["To"] = "Maria Silva <maria@example.com>"
    mail["Subject"] = subject
    mail["Date"] = "Mon, 23 Nov 2026 21:05:34 +0000"
    if text is not None:
        mail.set_content(text)
    if html is not None:
        mail.add_alternative(html, subtype="html") if text is not None else mail.set_content(html, subtype="html")
    for filename, content_type, data in files:
        maintype, _, subtype = content_type.partition("/")
        mail.add_attachment(data, maintype=maintype, subtype=subtype, filename=filename)
    return mail.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


async def add_mail(house: House, raw: bytes, message_id: UUID | None = None) -> UUID:
    """Put a mail into the development inbox as its transport does."""
    inbox_id = uuid7()
    keys = await house.keyring.tenant(house.tenant_id)
    await house.db.execute(
        "INSERT INTO inbox_mail (tenant_id, inbox_id, message_id, recipients, sealed_raw, size)"
        " VALUES ($1, $2, $3, '{0}', $4, $5)",
        house.tenant_id,
        inbox_id,
        message_id or uuid7(),
        keys.seal("inbox.raw", inbox_id, raw),
        len(raw),
    )
    return inbox_id
