"""How many recipients a tenant may have accepted, by day and by month of UTC.

What is used stands in running totals that each accept writes, so nothing here can lose it; a process reads
them once a second. What was taken since is counted in Redis, exactly; Redis never counts less than the
totals, so one that was flushed, or away, is put right by the next who asks. While it does not answer a
process takes no more than its share of what was left when it last read.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from datetime import datetime
from math import ceil
from typing import Any, NamedTuple
from uuid import UUID

from email_gateway.errors import GatewayError, QuotaExceeded, RateLimited
from email_gateway.flights import Flights
from email_gateway.limits.link import KEY_PREFIX, RedisLink
from email_gateway.observe import LIMITED
from email_gateway.store.database import Database
from email_gateway.store.quotas import Allowance, Use, find_allowances, find_use

READ_EVERY_SECONDS = 1.0
STALE_SECONDS = 3.0  # what is older is read before it is gone by
FORGET_SECONDS = 60.0
DAILY, MONTHLY = "daily_quota_exceeded", "monthly_quota_exceeded"
SHARE_SPENT = "quota_share"

# KEYS: one for each quota. ARGV: recipients, then of each quota its limit, what the totals say, and milliseconds
# until it ends. Answers the position of the first quota that does not suffice, or 0 once all are counted.
_TAKE = """
local counts = {}
for i, key in ipairs(KEYS) do
    local known = tonumber(ARGV[3 * i])
    counts[i] = math.max(tonumber(redis.call('GET', key) or '0'), known) + ARGV[1]
    if counts[i] > tonumber(ARGV[3 * i - 1]) then return i end
end
for i, key in ipairs(KEYS) do
    redis.call('SET', key, string.format('%.0f', counts[i]), 'PX', ARGV[3 * i + 1])
end
return 0
"""


class Quota(NamedTuple):
    """One limit of a tenant: what the totals said of it, and what this process has taken since."""

    code: str
    limit: int
    used: int
    since: int
    ends_at: datetime
    ends_in_seconds: int

    @property
    def left(self) -> int:
        return max(0, self.limit - self.used - self.since)

    def find_refusal(self, recipients: int, processes: int) -> GatewayError | None:
        """Return why this process must not take so many by itself, or None."""
        # Others go by what they read up to a second ago. Half of each share makes good for that.
        left = self.limit - self.used
        share = left if processes == 1 else left // (2 * processes)
        if self.since + recipients <= share:
            return None
        if processes == 1 or recipients > share:
            return self.exceeded(recipients)
        return RateLimited("this process has no more of the quota at the moment: try again in a second", 1)

    def exceeded(self, recipients: int) -> QuotaExceeded:
        """Return the error that says so."""
        period = "today" if self.code == DAILY else "this month"
        return QuotaExceeded(
            self.code,
            f"{recipients} recipients are more than what is left of the {self.limit} for {period} (UTC)",
            self.ends_in_seconds,
        )


@dataclass(slots=True)
class Account:
    """A tenant as this process knows it. `allowance` has no None.

    `taken` and `settled` count recipients since this process began: of accepts that began, and that ended.
    """

    allowance: Allowance
    use: Use | None
    read_at: float
    asked_at: float
    tried_at: float = 0.0  # when it could not be read
    taken: int = 0
    settled: int = 0
    settled_when_read: int = 0

    @property
    def quotas(self) -> list[Quota]:
        """Return the quotas that there are."""
        if (use := self.use) is None:
            return []
        since, age = self.taken - self.settled_when_read, time.monotonic() - self.read_at
        each = (
            (DAILY, self.allowance.daily_quota, use.today, use.day_ends_at),
            (MONTHLY, self.allowance.monthly_quota, use.this_month, use.month_ends_at),
        )
        return [
            Quota(code, limit, used, since, ends_at, max(1, ceil((ends_at - use.at).total_seconds() - age)))
            for code, limit, used, ends_at in each
            if limit
        ]


@dataclass(slots=True)
class Quotas:
    """The accounts of the tenants that ask. `defaults` count where an operator chose nothing for a tenant.

    `processes` is how many api processes live, which share while Redis does not count.
    """

    db: Database
    defaults: Allowance
    link: RedisLink | None = None
    processes: int = 1
    _script: Any = None
    _accounts: dict[UUID, Account] = field(default_factory=dict)
    _reads: Flights[UUID, None] = field(default_factory=Flights)

    async def get(self, tenant_id: UUID, *, within: float = STALE_SECONDS) -> Account:
        """Return what is known of a tenant, read now where that is longer ago."""
        account = self._accounts.get(tenant_id)
        now = time.monotonic()
        if account is None or now - max(account.read_at, account.tried_at) > within:
            try:
                await self._reads.join(tenant_id, lambda: self._read([tenant_id]))
            except GatewayError:
                if account is None:
                    raise
                account.tried_at = now  # what was known goes on counting: the rest of a share of what was left then
            account = self._accounts[tenant_id]
        account.asked_at = now
        return account

    async def take(self, tenant_id: UUID, recipients: int) -> Account:
        """Take recipients from the tenant's quotas, to be settled by `settling`.

        Raises QuotaExceeded, which says when the quota begins anew, and RateLimited where only this
        process's share is spent.
        """
        account = await self.get(tenant_id)
        if not account.quotas:
            return account
        exceeded = await self._take_shared(tenant_id, account.quotas, recipients)
        if exceeded is None:
            account = await self.get(tenant_id, within=READ_EVERY_SECONDS)
            refusals = (quota.find_refusal(recipients, self.processes) for quota in account.quotas)
            refusal = next((one for one in refusals if one is not None), None)
        else:
            refusal = account.quotas[exceeded - 1].exceeded(recipients) if exceeded else None
        if refusal is not None:
            LIMITED.labels(limit=refusal.code if isinstance(refusal, QuotaExceeded) else SHARE_SPENT).inc()
            raise refusal
        return account

    @contextmanager
    def settling(self, account: Account, recipients: int) -> Iterator[None]:
        """Count recipients against an account while they are being accepted; what came of it the totals know."""
        account.taken += recipients
        try:
            yield
        finally:
            account.settled += recipients

    async def give_back(self, tenant_id: UUID, account: Account, recipients: int) -> None:
        """Return to the count in Redis what was taken and not accepted; the totals never had it."""
        if quotas := account.quotas:
            await self._take_shared(tenant_id, quotas, -recipients)

    async def refresh(self) -> None:
        """Read anew what is known, and forget whom nobody has asked for."""
        horizon = time.monotonic() - FORGET_SECONDS
        for tenant_id, account in list(self._accounts.items()):
            if account.asked_at < horizon and account.taken == account.settled:
                del self._accounts[tenant_id]
        if self._accounts:
            await self._read(list(self._accounts))

    async def _take_shared(self, tenant_id: UUID, quotas: list[Quota], recipients: int) -> int | None:
        """Return what the script answers, or None while there is no Redis that answers."""
        if self.link is None:
            return None
        if self._script is None:
            self._script = self.link.redis.register_script(_TAKE)
        script = self._script
        arguments = [recipients]
        for quota in quotas:
            arguments += [quota.limit, quota.used, quota.ends_in_seconds * 1000]
        answer = await self.link.ask(lambda: script(keys=_keys(tenant_id, quotas), args=arguments))
        return None if answer is None else int(answer)

    async def _read(self, tenant_ids: Sequence[UUID]) -> None:
        began = time.monotonic()
        # What ends from here on may be missing in what the totals say, and counts until the next time.
        settled = {one: self._accounts[one].settled for one in tenant_ids if one in self._accounts}
        chosen = await find_allowances(self.db, tenant_ids)
        allowances = {one: self._complete(chosen.get(one, Allowance())) for one in tenant_ids}
        limited = [one for one, allowance in allowances.items() if allowance.daily_quota or allowance.monthly_quota]
        uses = await find_use(self.db, limited) if limited else {}
        for tenant_id, allowance in allowances.items():
            account = self._accounts.get(tenant_id)
            if account is None:
                self._accounts[tenant_id] = Account(allowance, uses.get(tenant_id), began, began)
            else:
                account.allowance, account.use, account.read_at = allowance, uses.get(tenant_id), began
                account.settled_when_read = settled.get(tenant_id, 0)

    def _complete(self, chosen: Allowance) -> Allowance:
        values = zip(astuple(chosen), astuple(self.defaults), strict=True)
        return Allowance(*((default or 0) if value is None else value for value, default in values))


def _keys(tenant_id: UUID, quotas: Sequence[Quota]) -> list[str]:
    # One place for both in a cluster: the part in braces.
    return [f"{KEY_PREFIX}:quota:{{{tenant_id}}}:{quota.code}:{quota.ends_at:%Y-%m-%d}" for quota in quotas]
