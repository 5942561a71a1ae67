"""The way to Secrets Manager: names, connections, certificates, and the time at its end."""

import asyncio

import pytest

from email_gateway.operator.doctor import Level
from email_gateway.operator.doctor.endpoint import Reached, _judge_clock, _judge_pace, check_endpoint
from email_gateway.operator.doctor.findings import Finding
from tests.delivery.certificates import Authority
from tests.operator.doctor.stand import PATIENT
from tests.plugins.secrets_manager import Aws

pytestmark = pytest.mark.anyio


def broken_one(findings: list[Finding]) -> Finding:
    (finding,) = (finding for finding in findings if finding.level is Level.BROKEN)
    return finding


async def test_an_endpoint_that_answers_is_well(aws: Aws) -> None:
    findings = await check_endpoint(aws.url, PATIENT)
    assert [(finding.check, finding.level) for finding in findings] == [
        ("dns", Level.OK), ("endpoint", Level.OK), ("clock", Level.OK),
    ]  # fmt: skip


async def test_a_name_that_does_not_resolve_is_named() -> None:
    finding = broken_one(await check_endpoint("https://secretsmanager.nowhere.invalid", PATIENT))
    assert (finding.check, finding.next_step) == ("dns", "getent hosts secretsmanager.nowhere.invalid")


async def test_an_endpoint_where_nobody_listens_is_named() -> None:
    finding = broken_one(await check_endpoint("http://127.0.0.1:1", PATIENT))
    assert finding.check == "endpoint"
    assert finding.next_step.startswith("curl ")


async def test_a_certificate_of_nobody_we_trust_is_named() -> None:
    certificate = Authority().server(self_signed=True)
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=certificate)
    port = server.sockets[0].getsockname()[1]
    async with server:
        finding = broken_one(await check_endpoint(f"https://127.0.0.1:{port}", PATIENT))
    assert "is not trusted" in finding.seen
    assert finding.next_step.startswith("openssl s_client")


async def test_behind_a_proxy_only_the_secrets_show_whether_there_is_a_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://user:MARK-proxy@127.0.0.1:1")
    findings = await check_endpoint("https://secretsmanager.nowhere.invalid", PATIENT)
    assert {finding.level for finding in findings} == {Level.SKIPPED}
    assert "MARK" not in repr(findings)


@pytest.mark.parametrize(
    ("ahead", "level"),
    [
        (0, Level.OK),
        (29, Level.OK),
        (-40, Level.WARNING),
        (299, Level.WARNING),
        (301, Level.BROKEN),
        (None, Level.SKIPPED),
    ],
)
def test_a_clock_is_judged_by_what_aws_bears(ahead: float | None, level: Level) -> None:
    assert _judge_clock(Reached(0, 0, 0, ahead)).level is level


def test_a_long_way_is_warned_of() -> None:
    assert _judge_pace("https://host", Reached(0, 0.4, 0.7, None), 4.0).level is Level.WARNING
