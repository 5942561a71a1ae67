"""Time-outs as a setting: named steps, whole seconds, and the standard's for the rest."""

from datetime import timedelta

import pytest

from email_gateway.mail.timeouts import STEPS, Timeouts, parse_timeouts


def test_steps_that_are_not_named_keep_their_default() -> None:
    assert parse_timeouts("") == Timeouts()
    assert parse_timeouts("connect=5, dot=900,") == Timeouts(connect=timedelta(seconds=5), dot=timedelta(seconds=900))


@pytest.mark.parametrize("step", STEPS)
def test_every_step_can_be_set(step: str) -> None:
    assert getattr(parse_timeouts(f"{step}=7"), step) == timedelta(seconds=7)


@pytest.mark.parametrize(
    "text",
    [
        "connect",
        "connect=",
        "connect=0",
        "connect=3601",
        "connect=1.5",
        "connect=-1",
        "helo=5",
        "dot=5,dot=6",
        "=5",
        "dot=\u0665",
    ],
)
def test_anything_else_is_refused_and_the_steps_are_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must .*connect, tls, greeting") as refused:
        parse_timeouts(text)
    assert "helo" not in str(refused.value)


def test_the_defaults_are_no_shorter_than_the_standard_asks_for() -> None:
    defaults, minutes = Timeouts(), timedelta(minutes=1)
    # RFC 5321 section 4.5.3.2: greeting, MAIL, RCPT, DATA, a block of data, and the answer to the dot.
    least = {"greeting": 5, "mail": 5, "rcpt": 5, "data": 2, "block": 3, "dot": 10}
    assert all(getattr(defaults, step) >= number * minutes for step, number in least.items())
