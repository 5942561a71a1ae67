"""The sentences of what to do: one for each cause, naming what the commands name."""

from datetime import UTC, datetime, timedelta

import pytest

from email_gateway.mail.advice import dead_advice, lane_advice, lane_name, lane_options, queued_advice
from email_gateway.mail.deliveries import COMMON_LANE, SUSPECT_LANE
from email_gateway.mail.reasons import REASONS

TENANT = "01a20a51-affa-7334-9f2a-3fb5739d3178"
NOW = datetime(2026, 11, 29, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("route", "lane", "name", "options"),
    [
        ("*", "", "all mail", "--all"),
        ("smtp", "", "route smtp", "--route smtp"),
        ("*", "to:example.net", "mail to example.net", "--to example.net"),
        ("smtp", "to:example.net", "mail to example.net on route smtp", "--to example.net --route smtp"),
        (
            "*",
            f"from:{TENANT}/a.example",
            f"mail from a.example of tenant {TENANT}",
            f"--from a.example --tenant {TENANT}",
        ),
    ],
)
def test_a_lane_is_named_for_people_and_for_commands(route: str, lane: str, name: str, options: str) -> None:
    assert (lane_name(route, lane), lane_options(route, lane)) == (name, options)
    by_hand = lane_advice(route, lane, held_by="operator", reason=None)
    assert by_hand == f"An operator holds it: `email-gateway queue release {options}` lets it go."


@pytest.mark.parametrize("reason", REASONS)
def test_a_lane_that_replies_hold_says_what_the_table_of_reasons_says(reason: str) -> None:
    for lane in ("", "to:example.net", f"from:{TENANT}/a.example"):
        told = lane_advice("smtp", lane, held_by="replies", reason=reason)
        assert told.startswith(REASONS[reason].meaning)
        assert told.endswith(REASONS[reason].to_do)


def test_every_death_has_a_way_on() -> None:
    ours = ("in_doubt", "worker_lost", "expired", "tampered", "content_missing", "malformed", "attachment_missing")
    sentences = {dead_advice(reason) for reason in (*ours, "mailbox_full", None)}
    assert len(sentences) == len(ours) + 2
    assert all("retry" in one or "discard" in one for one in sentences)


@pytest.mark.parametrize(
    ("lane", "wait", "reason", "told"),
    [
        (COMMON_LANE, 60, "greylisted", "Its next try, at 2026-11-29 03:01:00 UTC. The server takes mail of newcomers"),
        (COMMON_LANE, 60, None, "Its next try, at 2026-11-29 03:01:00 UTC. `email-gateway queue flush` tries now."),
        (COMMON_LANE, 0, None, "Its turn. If that lasts, see that a worker runs."),
        (SUSPECT_LANE, 0, "worker_lost", "A worker died while it composed it"),
        ("to:example.net", 0, None, "Its turn in a lane that is open again."),
    ],
)
def test_what_is_queued_in_open_lanes_waits_for_its_time_or_its_turn(
    lane: str, wait: int, reason: str | None, told: str
) -> None:
    assert queued_advice(lane, NOW + timedelta(seconds=wait), NOW, reason).startswith(told)
