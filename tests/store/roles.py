"""Logins of a test's own, so that their passwords may change while something uses them."""

import secrets
import uuid
from collections.abc import AsyncIterator

from email_gateway.store.database import Database
from tests.plugins.marks import Watch


class Role:
    """A role that may log in to the test's database and use its tenants.

    `admin` is who changes it, and is connected as another role.
    """

    def __init__(self, admin: Database, database_url: str, watch: Watch) -> None:
        self.name = f"role_{uuid.uuid4().hex[:12]}"
        self.url = database_url
        self._admin = admin
        self._database_url = database_url
        self._watch = watch

    async def create(self) -> None:
        await self._admin.execute(f"CREATE ROLE {self.name} LOGIN")
        await self._admin.execute(f"GRANT email_gateway_service TO {self.name}")
        await self.change_password()

    async def change_password(self) -> str:
        """Give it a new password; return the URL with it, which `url` is from now on."""
        self.url = self.url_with(secrets.token_hex(12))
        await self.apply(self.url)
        return self.url

    async def apply(self, url: str) -> None:
        """Let PostgreSQL take the password of this URL, and no other."""
        password = url.partition("://")[2].partition("@")[0].partition(":")[2]
        await self._admin.execute(f"ALTER ROLE {self.name} PASSWORD '{password}'")

    def url_with(self, password: str) -> str:
        self._watch.add("a role's password", password)
        scheme, _, rest = self._database_url.partition("://")
        return f"{scheme}://{self.name}:{password}@{rest.rpartition('@')[2]}"

    async def session_pids(self) -> list[int]:
        rows = await self._admin.fetch("SELECT pid FROM pg_stat_activity WHERE usename = $1", self.name)
        return [row["pid"] for row in rows]

    async def until_gone(self) -> None:
        """Wait until no session of this role is left; PostgreSQL tells nobody when one has ended."""
        while await self.session_pids():
            await self._admin.execute("SELECT pg_sleep(0.01)")

    async def end_sessions(self) -> None:
        """End its sessions, as an operator or a failover would."""
        for pid in await self.session_pids():
            await self._admin.fetch("SELECT pg_terminate_backend($1, 5000)", pid)

    async def drop(self) -> None:
        await self._admin.execute(f"DROP OWNED BY {self.name}")
        await self._admin.execute(f"DROP ROLE {self.name}")


class Renewals:
    """What the secret holds, in the order in which it is tried; counts how often it was asked."""

    def __init__(self, *urls: str) -> None:
        self.urls = list(urls)
        self.count = 0

    async def __call__(self) -> AsyncIterator[str]:
        self.count += 1
        for url in self.urls:
            yield url
