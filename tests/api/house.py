"""A real server on a loopback socket over a real database, and what a test needs to talk to it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

from email_gateway.api import ApiContext, build_api
from email_gateway.api.protocol import BoundedProtocol
from email_gateway.api.server import make_server
from email_gateway.store.accounts import create_api_key, create_tenant
from email_gateway.store.database import Database

ADMIN_KEY = "an-admin-key-for-tests-of-forty-characters"


@dataclass(frozen=True)
class Served:
    """A running server; `acme` and `other` are two tenants with full-access keys."""

    url: str
    context: ApiContext
    acme: UUID
    acme_key: str
    other: UUID
    other_key: str

    @property
    def db(self) -> Database:
        return self.context.db

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    def client(self, key: str | None = None, **headers: str) -> httpx.AsyncClient:
        """An HTTP client of acme, or of another key; no key where it is empty."""
        key = self.acme_key if key is None else key
        if key:
            headers["authorization"] = f"Bearer {key}"
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30)

    def admin(self, key: str = ADMIN_KEY) -> httpx.AsyncClient:
        """An HTTP client with the admin key and no other."""
        return self.client("", **{"x-admin-key": key})


@asynccontextmanager
async def serving(context: ApiContext, protocol: type[BoundedProtocol] = BoundedProtocol) -> AsyncIterator[str]:
    """Serve the API over this context; yields the URL before `/v1`."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        server = make_server(build_api(context), protocol)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.stop()
            await task


async def make_accounts(db: Database, suffix: str = "") -> tuple[UUID, str, UUID, str]:
    """Two tenants, `acme` and `other` with this suffix, and a key for each."""
    made: list[Any] = []
    for name in (f"acme{suffix}", f"other{suffix}"):
        tenant = await create_tenant(db, name, actor="test")
        key = await create_api_key(db, tenant.tenant_id, "test", actor="test")
        made += [tenant.tenant_id, key.secret]
    return made[0], made[1], made[2], made[3]


def email(**changes: Any) -> dict[str, Any]:
    """A message that is accepted; a change to None leaves the field out."""
    fields = {
        "from": "Acme <billing@acme.example>",
        "to": ["maria@example.net"],
        "subject": "Your invoice",
        "text": "Attached.",
        **{name.rstrip("_"): value for name, value in changes.items()},
    }
    return {name: value for name, value in fields.items() if value is not None}
