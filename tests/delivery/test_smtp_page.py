"""docs/smtp.md says of every time-out and every limit what the program does."""

from dataclasses import fields
from pathlib import Path

from email_gateway.delivery.pool import PoolLimits
from email_gateway.mail.smarthosts import OPTIONS
from email_gateway.mail.timeouts import Timeouts

PAGE = (Path(__file__).parents[2] / "docs" / "smtp.md").read_text()


def test_the_page_lists_every_time_out_with_its_default() -> None:
    rows = [line.split(" | ")[:2] for line in PAGE.partition("## Time-outs")[2].splitlines() if line.startswith("| `")]
    defaults = Timeouts()
    assert rows == [[f"| `{f.name}`", f"{getattr(defaults, f.name).total_seconds():.0f}"] for f in fields(Timeouts)]


def test_the_page_states_when_a_connection_is_given_up() -> None:
    limits = PoolLimits()
    for said in (
        f"`ROUTE_CONNECTIONS` ({limits.connections})",
        f"after {limits.messages} messages",
        f"{limits.age.total_seconds() / 60:.0f} minutes old",
        f"idle for {limits.idle.total_seconds():.0f} seconds",
    ):
        assert said in PAGE


def test_the_page_names_every_option_of_the_url() -> None:
    for option in OPTIONS:
        assert f"`{option}" in PAGE
