"""The account of SES, as GetAccount answers for it: moto does not know the call, so the proxy answers as AWS documents it."""

from typing import Any

import pytest

from email_gateway.operator.doctor import Level
from email_gateway.operator.doctor.ses import find_region, judge_account
from tests.operator.doctor.stand import Stand, found
from tests.smtp_servers import SmtpServer

pytestmark = [pytest.mark.anyio, pytest.mark.needs("redis-server")]

REGION = "sa-east-1"
HOST = f"email-smtp.{REGION}.amazonaws.com"
GOOD: dict[str, Any] = {
    "EnforcementStatus": "HEALTHY",
    "ProductionAccessEnabled": True,
    "SendQuota": {"Max24HourSend": 50000.0, "MaxSendRate": 14.0, "SentLast24Hours": 1200.0},
    "SendingEnabled": True,
}


def quota(sent: float, most: float = 50000.0) -> dict[str, Any]:
    return {"SendQuota": {"Max24HourSend": most, "MaxSendRate": 14.0, "SentLast24Hours": sent}}


@pytest.mark.parametrize(
    ("host", "region"),
    [
        (HOST, REGION),
        ("email-smtp-fips.us-east-1.amazonaws.com", "us-east-1"),
        ("vpce-0a1b.email-smtp.eu-west-1.vpce.amazonaws.com.", "eu-west-1"),
        ("EMAIL-SMTP.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("email-smtp.eu-west-1.amazonaws.com.example.net", None),
        ("smtp.example.net", None),
        ("127.0.0.1", None),
    ],
)
def test_ses_is_told_by_the_name_of_its_server(host: str, region: str | None) -> None:
    assert find_region(host) == region


@pytest.mark.parametrize(
    ("answer", "is_production", "level", "seen"),
    [
        ({}, True, Level.OK, "1200 mails in 24 hours of 50000, at most 14 mails a second"),
        (quota(9000, most=-1.0), True, Level.OK, "9000 mails in 24 hours, at most"),
        ({"SendingEnabled": False}, False, Level.BROKEN, "sending is paused"),
        ({"EnforcementStatus": "SHUTDOWN"}, False, Level.BROKEN, "sending is paused"),
        ({"EnforcementStatus": "PROBATION"}, False, Level.WARNING, "under review"),
        ({"ProductionAccessEnabled": False}, False, Level.WARNING, "in the sandbox"),
        ({"ProductionAccessEnabled": False}, True, Level.BROKEN, "in the sandbox"),
        (quota(40000), True, Level.WARNING, "40000 mails in 24 hours of 50000"),
        (quota(50000), True, Level.BROKEN, "50000 mails in 24 hours of 50000"),
    ],
)
def test_an_account_is_judged_by_what_keeps_mail_from_leaving(
    answer: dict[str, Any], is_production: bool, level: Level, seen: str
) -> None:
    finding = judge_account(GOOD | answer, REGION, is_production=is_production)
    assert (finding.level, seen in finding.seen) == (level, True), finding
    if level is not Level.OK:
        assert finding.means
        assert finding.next_step == f"aws sesv2 get-account --region {REGION}"


async def look_through_ses(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a server of ours pass for SES's: its real name would be looked up outside."""
    server = await stand.stack.enter_async_context(SmtpServer())
    stand.aws.put("smtp-url", f"smtp://127.0.0.1:{server.port}?tls=none")
    monkeypatch.setattr("email_gateway.operator.doctor.smarthost.find_region", lambda _: REGION)


async def test_where_the_smarthost_is_ses_its_account_is_looked_at(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    await look_through_ses(stand, monkeypatch)
    stand.aws.proxy.answers["GET /v2/email/account"] = lambda _: (200, GOOD | {"SendingEnabled": False})
    report = await stand.look()
    assert found(report, "smarthost").level is Level.OK
    assert found(report, "ses").level is Level.BROKEN


@pytest.mark.parametrize(
    ("status", "code", "seen"),
    [(403, "AccessDeniedException", "may not ask"), (500, "InternalFailure", "cannot be asked")],
)
async def test_an_account_that_cannot_be_asked_about_is_not_called_broken(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, status: int, code: str, seen: str
) -> None:
    await look_through_ses(stand, monkeypatch)
    stand.aws.proxy.answers["GET /v2/email/account"] = lambda _: (status, {"__type": code, "message": "no"})
    finding = found(await stand.look(), "ses")
    assert (finding.level, seen in finding.seen) == (Level.SKIPPED, True), finding
