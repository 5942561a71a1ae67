"""What an API key and its tenant may do: how each request stands, and what is told of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from email_gateway.errors import GatewayError, RateLimited
from email_gateway.limits.key_rates import KeyRates, Rate, Standing
from email_gateway.limits.link import RedisLink
from email_gateway.limits.quotas import DAILY, MONTHLY, READ_EVERY_SECONDS, SHARE_SPENT, Account, Quotas
from email_gateway.observe import LIMITED
from email_gateway.store.database import Database
from email_gateway.store.instances import count_instances
from email_gateway.store.quotas import Allowance

# A process says every 10 s that it lives (`fleet`); one that is silent for longer shares nothing.
LIVES_FOR = timedelta(seconds=25)

RATE_SPENT = "rate_limit_exceeded"

Headers = tuple[tuple[bytes, bytes], ...]

for name in (RATE_SPENT, DAILY, MONTHLY, SHARE_SPENT):
    LIMITED.labels(limit=name)  # so that each is there from the start, at zero


@dataclass(frozen=True, slots=True)
class CallerStanding:
    """How a request stands: its key's rate, where there is one, and its tenant's account."""

    tenant_id: UUID
    quotas: Quotas
    account: Account
    rate: Standing | None

    @property
    def has_quotas(self) -> bool:
        """Whether the tenant's recipients are counted."""
        return self.account.use is not None

    def require(self) -> None:
        """Raise RateLimited for a request too many."""
        if self.rate is not None and not self.rate.is_allowed:
            LIMITED.labels(limit=RATE_SPENT).inc()
            allowed = f"{self.rate.rate.amount} in {self.rate.rate.seconds} s"
            raise RateLimited(f"too many requests with this API key: it may make {allowed}", self.rate.reset_seconds)

    @asynccontextmanager
    async def taking(self, recipients: int) -> AsyncIterator["Taken"]:
        """Take recipients from the quotas; what raises gives them back. Raises as `Quotas.take` does."""
        account = await self.quotas.take(self.tenant_id, recipients)
        taken = Taken(self, account, recipients)
        with self.quotas.settling(account, recipients):
            try:
                yield taken
            except BaseException:
                await taken.give_back()
                raise

    @property
    def headers(self) -> Headers:
        """Return the fields of draft-ietf-httpapi-ratelimit-headers-11, and before them those that Resend's SDKs read."""
        if self.rate is None and not self.has_quotas:
            return ()
        policies, limits, older = [], [], []
        if self.rate is not None:
            rate, left, reset = self.rate.rate, self.rate.remaining, self.rate.reset_seconds
            older = [("limit", rate.amount), ("remaining", left), ("reset", reset)]
            policies.append(f'"key";q={rate.amount};w={rate.seconds}')
            limits.append(f'"key";r={left};t={reset}')
        for quota in self.account.quotas:
            name = "day" if quota.code == DAILY else "month"
            policies.append(f'"{name}";q={quota.limit}')  # a month has no fixed window
            limits.append(f'"{name}";r={quota.left};t={quota.ends_in_seconds}')
        return (
            *((f"ratelimit-{name}".encode(), str(value).encode()) for name, value in older),
            (b"ratelimit-policy", ", ".join(policies).encode()),
            (b"ratelimit", ", ".join(limits).encode()),
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """Recipients that were taken from a tenant's quotas."""

    standing: CallerStanding
    account: Account
    recipients: int

    async def give_back(self) -> None:
        """Return them: nothing was accepted."""
        await self.standing.quotas.give_back(self.standing.tenant_id, self.account, self.recipients)


class CallerLimits:
    """The limits of every caller, in one process. `watch` runs beside the requests."""

    def __init__(self, db: Database, link: RedisLink | None, defaults: Allowance) -> None:
        self._db = db
        self.rates = KeyRates(link)
        self.quotas = Quotas(db, defaults, link)

    async def stand(self, tenant_id: UUID, api_key_id: UUID) -> CallerStanding:
        """Count a request of a key and return how it stands."""
        account = await self.quotas.get(tenant_id)
        rate = None
        if per_second := account.allowance.key_rate:
            burst = account.allowance.key_burst or per_second
            rate = await self.rates.take(str(api_key_id), Rate.of(per_second, burst))
        return CallerStanding(tenant_id, self.quotas, account, rate)

    async def watch(self) -> None:
        """Follow what operators choose, what is used and who shares, until cancelled."""
        while True:
            with suppress(GatewayError):  # what is known goes on counting
                await self.look()
            await asyncio.sleep(READ_EVERY_SECONDS)

    async def look(self) -> None:
        """Read all of it once."""
        processes = max(1, await count_instances(self._db, "api", LIVES_FOR))
        self.rates.processes = self.quotas.processes = processes
        await self.quotas.refresh()
