"""docs/replies.md says of every reason what the program does."""

from pathlib import Path

import pytest

from email_gateway.mail.deliveries import Scope
from email_gateway.mail.reasons import DEAD_ADDRESS, LOCAL, PASSING, REASONS, THROTTLES

PAGE = Path(__file__).parents[2] / "docs" / "replies.md"
HELD_SCOPES = (Scope.ROUTE, Scope.OURS, Scope.SENDER)


def verdict_of(reason: str) -> str:
    scope = REASONS[reason].scope
    if scope is None:
        return "by the command"
    if reason == "too_many_recipients":
        return "deferred: the rest goes at once"
    if reason in PASSING:
        return "deferred"
    if reason in THROTTLES:
        return "held: slower"
    if reason in LOCAL:
        return "held: this process only"
    if scope in HELD_SCOPES or reason == "destination_refused":
        return "held"
    return "bounced, hard" if reason in DEAD_ADDRESS else "bounced"


def row_of(reason: str) -> str:
    entry = REASONS[reason]
    return f"| `{reason}` | {entry.scope or 'whom the command is about'} | {verdict_of(reason)} | {entry.meaning} | {entry.to_do} |"


@pytest.mark.parametrize("reason", REASONS)
def test_the_page_lists_every_reason_as_it_is_ruled(reason: str) -> None:
    assert row_of(reason) in PAGE.read_text().splitlines()


def test_the_page_lists_no_reason_that_does_not_exist() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `") and line.count(" | ") == 4]
    assert len(rows) == len(REASONS)
