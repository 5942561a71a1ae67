"""What the secrets cost a month: the arithmetic, with dated prices."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from email_gateway.secrets.secret import SECRETS
from email_gateway.secrets.service import REFRESH_FROM, REFRESH_TO

# https://aws.amazon.com/secrets-manager/pricing/ and https://aws.amazon.com/kms/pricing/, us-east-1.
PRICES_OF = "September 2026"
PER_SECRET = Decimal("0.40")
PER_10_000_CALLS = Decimal("0.05")
PER_KMS_KEY = Decimal("1.00")
DAYS = 30


@dataclass(frozen=True, slots=True)
class Cost:
    """A month of 30 days; calls are requests to Secrets Manager, money is US dollars."""

    processes: int
    secrets: int
    cache: timedelta
    calls_per_secret: int
    calls: int
    secrets_dollars: Decimal
    calls_dollars: Decimal
    kms_key_dollars: Decimal
    most_calls: int
    most_calls_dollars: Decimal

    @property
    def total_dollars(self) -> Decimal:
        return self.secrets_dollars + self.calls_dollars + self.kms_key_dollars


def reckon(processes: int, secrets: int, cache: timedelta) -> Cost:
    """Reckon one request a secret and process for each life of the cache.

    `most_calls` is what really leaves: a refresh comes somewhat before the cache's end, and each asks
    for every secret that the gateway knows, also for optional ones that are not there.
    """
    per_secret = round(timedelta(days=DAYS) / cache)
    calls = processes * secrets * per_secret
    ahead = (REFRESH_FROM + REFRESH_TO) / 2
    most = round(processes * len(SECRETS) * per_secret / ahead)
    return Cost(
        processes=processes,
        secrets=secrets,
        cache=cache,
        calls_per_secret=per_secret,
        calls=calls,
        secrets_dollars=secrets * PER_SECRET,
        calls_dollars=calls * PER_10_000_CALLS / 10_000,
        kms_key_dollars=PER_KMS_KEY,
        most_calls=most,
        most_calls_dollars=most * PER_10_000_CALLS / 10_000,
    )
