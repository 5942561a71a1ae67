"""What the HTTP interface is given by whoever starts it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Protocol
from uuid import UUID

from email_gateway.api.preparer import Preparer
from email_gateway.api.schemas import Ready
from email_gateway.fleet import Fleet
from email_gateway.limits import Limits
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database
from email_gateway.store.domain_facts import DomainFacts
from email_gateway.store.domains import is_verified
from email_gateway.vault.keyring import Keyring


class Secrets(Protocol):
    """The part of `SecretsService` that requests need."""

    @property
    def health(self) -> str: ...
    def admin_key_matches(self, candidate: str) -> bool: ...
    def staged_admin_key_matches(self, candidate: str) -> bool: ...
    def rotation_key_matches(self, candidate: str) -> bool: ...
    def status(self) -> Mapping[str, Any]: ...


class ApiSettings(Protocol):
    """The settings that requests need."""

    @property
    def use_secrets_manager(self) -> bool: ...
    @property
    def keeps_mail(self) -> bool: ...
    @property
    def dns_resolvers(self) -> Sequence[tuple[str, int]]: ...
    @property
    def require_verified_domains(self) -> bool: ...
    @property
    def key_rate(self) -> int: ...
    @property
    def key_burst(self) -> int: ...
    @property
    def tenant_daily_quota(self) -> int: ...
    @property
    def tenant_monthly_quota(self) -> int: ...
    @property
    def trusted_proxies(self) -> Sequence[IPv4Network | IPv6Network]: ...
    @property
    def webhook_networks(self) -> Sequence[IPv4Network | IPv6Network]: ...


def know_verified_domains(db: Database) -> DomainFacts[bool]:
    """Return what keeps whose domains are verified, for all tenants of a process."""
    return DomainFacts(db, lambda tenant_id, sender_domain: is_verified(db, tenant_id, sender_domain))


class Readiness:
    """The last answer about readiness, at most a second old, found once for all who ask at a time.

    Probes come from every load balancer, and from anyone who likes to.
    """

    MAX_AGE_SECONDS = 1.0

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._ready: Ready | None = None
        self._until = 0.0

    async def get(self, look: Callable[[], Awaitable[Ready]]) -> Ready:
        """Return the last answer, or the one that `look` finds now."""
        async with self._lock:
            if self._ready is None or time.monotonic() >= self._until:
                self._ready = await look()
                self._until = time.monotonic() + self.MAX_AGE_SECONDS
            return self._ready


@dataclass(frozen=True, slots=True)
class ApiContext:
    """Everything a request may use. Whoever made the parts closes them, after the server has stopped."""

    settings: ApiSettings
    db: Database
    keyring: Keyring
    secrets: Secrets
    acceptor: Acceptor
    limits: Limits
    fleet: Fleet
    verified_domains: DomainFacts[bool]
    readiness: Readiness = field(default_factory=Readiness, repr=False)
    preparer: Preparer = field(default_factory=Preparer, repr=False)

    def for_tenant(self, tenant_id: UUID) -> "ApiContext":
        """Return what a tenant's request may use: the database under row-level security.

        Accepted mail is written for several tenants at once, by the acceptor, which keeps the whole database.
        """
        return replace(self, db=self.db.as_tenant(tenant_id))
