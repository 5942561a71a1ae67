"""`email-gateway secrets cost`: what a month costs, with the arithmetic."""

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer

from email_gateway.cli.options import AsJson, examples
from email_gateway.cli.printing import print_json, print_table, say
from email_gateway.operator.prices import DAYS, PER_10_000_CALLS, PER_SECRET, PRICES_OF, Cost, reckon
from email_gateway.secrets.secret import SECRETS

app = typer.Typer()


@app.command(epilog=examples("email-gateway secrets cost --processes 2 --secrets 4"))
def cost(
    processes: Annotated[int, typer.Option(min=1, max=100_000, help="Processes of the whole fleet, api and worker.")],
    secrets: Annotated[int, typer.Option(min=1, max=1000, help="Secrets that are stored.")],
    cache_seconds: Annotated[int, typer.Option(min=1, max=86_400, help="SECRETS_CACHE_SECONDS.")] = 300,
    as_json: AsJson = False,
) -> None:
    """Show what the secrets cost a month, and how that comes about.

    Calls are per secret and per process. Not in it: KMS requests (0.03 dollars for 10,000 after the first
    20,000), and an interface VPC endpoint, which costs more than all the rest.
    """
    found = reckon(processes, secrets, timedelta(seconds=cache_seconds))
    if as_json:
        plain = {
            name: value if isinstance(value, int | timedelta) else str(value) for name, value in asdict(found).items()
        }
        print_json({**plain, "total_dollars": str(found.total_dollars), "prices_of": PRICES_OF})
        return
    print_table("A month of 30 days", ["", "how", "US dollars"], _rows(found))
    say(f"prices of {PRICES_OF}, us-east-1: https://aws.amazon.com/secrets-manager/pricing/")
    say(
        f"What leaves is somewhat more: a refresh comes at about 80 % of the cache's life and\n"
        f"asks for all {len(SECRETS)} names, also for those that are not there: {found.most_calls:,} calls,"
        f" {found.most_calls_dollars:.2f} dollars."
    )


def _rows(found: Cost) -> list[tuple[str, str, str]]:
    seconds = int(found.cache.total_seconds())
    per_secret = f"{DAYS} days / {seconds} s = {found.calls_per_secret:,}"
    calls = f"{found.processes} processes x {found.secrets} secrets x {found.calls_per_secret:,} = {found.calls:,}"
    return [
        ("calls per secret", per_secret, ""),
        ("calls", calls, ""),
        ("", f"{found.calls:,} / 10,000 x {PER_10_000_CALLS}", f"{found.calls_dollars:.2f}"),
        ("secrets", f"{found.secrets} x {PER_SECRET}", f"{found.secrets_dollars:.2f}"),
        ("KMS key", "1", f"{found.kms_key_dollars:.2f}"),
        ("total", "", f"{found.total_dollars:.2f}"),
    ]
