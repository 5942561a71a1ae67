"""GET /v1/usage: what a tenant has used of its quotas."""

import msgspec

from email_gateway.api.calls import Call, Reply
from email_gateway.api.context import ApiContext
from email_gateway.api.schemas import EmailsUse, PeriodUse, RateView, Usage
from email_gateway.store.quotas import find_use

_ENCODE = msgspec.json.Encoder().encode


async def get_usage(context: ApiContext, call: Call) -> Reply:
    """Return the recipients of today and of this month (UTC), and the limits. Read now, from running totals."""
    assert call.standing is not None  # every route that needs an API key has one
    use = (await find_use(context.db, [call.tenant_id]))[call.tenant_id]
    allowance, rate = call.standing.account.allowance, call.standing.rate
    usage = Usage(
        EmailsUse(
            PeriodUse(use.today, allowance.daily_quota or None, use.today, use.day_ends_at),
            PeriodUse(use.this_month, allowance.monthly_quota or None, use.this_month, use.month_ends_at),
        ),
        RateView(rate.rate.amount, f"{rate.rate.seconds * 1000}ms") if rate else None,
    )
    return Reply(200, _ENCODE(usage))
