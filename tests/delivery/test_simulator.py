"""What becomes of a mail to each of the simulator's addresses, and that the two names in SQL are the program's."""

from dataclasses import replace

import pytest

from email_gateway.delivery.outgoing import OutgoingMail
from email_gateway.delivery.simulator import Simulator, simulate
from email_gateway.mail.deliveries import SIMULATED, SIMULATOR_DOMAIN, SIMULATOR_LANE, Phase, Verdict
from email_gateway.mail.reasons import REASONS
from email_gateway.store.queries import load
from tests.delivery.attempting import RAW, Recorder, claims_for

FIRST = claims_for().each[0]


@pytest.mark.parametrize(
    ("local", "attempt", "verdict", "stage", "code"),
    [
        ("delivered", 1, Verdict.DELIVERED, "dot", 250),
        ("Delivered+label", 1, Verdict.DELIVERED, "dot", 250),
        ("bounced", 1, Verdict.BOUNCED, "rcpt", 550),
        ("bounced", 2, Verdict.BOUNCED, "rcpt", 550),
        ("complained+x+y", 1, Verdict.COMPLAINED, "dot", 250),
        ("suppressed", 1, Verdict.SUPPRESSED, "queue", None),
        ("delayed", 1, Verdict.DEFERRED, "rcpt", 450),
        ("delayed", 2, Verdict.DELIVERED, "dot", 250),
        ("in-doubt", 1, Verdict.IN_DOUBT, "dot", None),
        ("in-doubt", 2, Verdict.DELIVERED, "dot", 250),
        ("maria", 1, Verdict.BOUNCED, "rcpt", 550),
        ("", 1, Verdict.BOUNCED, "rcpt", 550),
    ],
)
def test_an_address_says_what_becomes_of_its_mail(
    local: str, attempt: int, verdict: Verdict, stage: str, code: int | None
) -> None:
    outcome = simulate(replace(FIRST, attempt=attempt), f"{local}@{SIMULATOR_DOMAIN}")
    assert (outcome.verdict, outcome.stage, outcome.reason, outcome.code) == (verdict, stage, SIMULATED, code)


@pytest.mark.anyio
async def test_each_recipient_has_an_outcome_of_its_own_and_nothing_is_past_the_dot() -> None:
    recorder = Recorder()
    recipients = tuple(f"{local}@{SIMULATOR_DOMAIN}" for local in ("bounced", "delivered"))
    simulator = Simulator()
    outcomes = await simulator.send(OutgoingMail(claims_for(2), "a@acme.example", recipients, RAW), recorder)
    await simulator.close()
    assert [outcome.verdict for outcome in outcomes] == [Verdict.BOUNCED, Verdict.DELIVERED]
    assert recorder.phases == [(Phase.COMPOSED, 2)]


def test_the_queries_know_the_simulator_by_its_names_and_no_server_has_its_reason() -> None:
    assert f"WHEN domain = '{SIMULATOR_DOMAIN}' THEN '{SIMULATOR_LANE}'" in load("messages").add_messages
    assert f"domain = '{SIMULATOR_DOMAIN}', recipient" in load("deliveries").claim
    assert SIMULATED not in REASONS
