"""Smarthosts that answer, and do not do what is needed."""

import pytest

from email_gateway.operator.doctor import Finding, Level
from tests.operator.doctor.stand import PASSWORD, USER, Stand, found
from tests.smtp_servers import SmtpServer

pytestmark = [pytest.mark.anyio, pytest.mark.needs("redis-server")]


async def finding_for(stand: Stand, server: SmtpServer, *, tls: str = "none", login: str = "") -> Finding:
    async with server:
        stand.aws.put("smtp-url", f"smtp://{login}127.0.0.1:{server.port}?tls={tls}")
        return found(await stand.look(), "smarthost")


async def test_a_password_in_clear_is_warned_of(stand: Stand) -> None:
    finding = await finding_for(stand, SmtpServer(users={USER: PASSWORD}), login=f"{USER}:{PASSWORD}@")
    assert finding.level is Level.WARNING
    assert "in clear" in finding.means


async def test_a_server_that_takes_small_mails_only_is_warned_of(stand: Stand) -> None:
    finding = await finding_for(stand, SmtpServer(keywords=("SIZE 1000000",)))
    assert finding.level is Level.WARNING
    assert "up to 1 MB" in finding.seen


async def test_a_server_that_offers_no_login_is_broken(stand: Stand) -> None:
    server = SmtpServer(tls=stand.authority.server())
    finding = await finding_for(stand, server, tls="required", login=f"{USER}:{PASSWORD}@")
    assert finding.level is Level.BROKEN
    assert "offers no login" in finding.means


async def test_a_server_that_cannot_encrypt_is_broken_where_encryption_is_required(stand: Stand) -> None:
    finding = await finding_for(stand, SmtpServer(), tls="required")
    assert (finding.level, "at STARTTLS: tls not offered" in finding.seen) == (Level.BROKEN, True)


async def test_no_url_is_broken_and_says_how_to_make_it(stand: Stand) -> None:
    stand.aws.client.delete_secret(SecretId=f"{stand.aws.prefix}/smtp-url", ForceDeleteWithoutRecovery=True)
    finding = found(await stand.look(), "smarthost")
    assert (finding.level, finding.seen) == (Level.BROKEN, "no URL is set")
    assert finding.next_step.startswith("aws secretsmanager create-secret")
