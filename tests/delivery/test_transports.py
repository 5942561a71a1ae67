"""Which transport the settings open, and which smarthost counts when its URL changes."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from email_gateway.delivery import open_transport
from email_gateway.delivery.inbox import InboxTransport
from email_gateway.delivery.outgoing import OutgoingMail
from email_gateway.delivery.smarthost import SmtpTransport
from email_gateway.delivery.transports import follow_smtp_url
from email_gateway.errors import ConfigurationError
from email_gateway.mail.deliveries import Verdict
from email_gateway.secrets import SecretsService
from email_gateway.settings import load_settings
from email_gateway.store.database import Database
from email_gateway.vault.keyring import Keyring
from tests.delivery.attempting import RAW, Recorder, claims_for

pytestmark = pytest.mark.anyio

URL = "smtp://user:s3cret-Zq9@127.0.0.1:2525?tls=none"
KEYS = {"ENCRYPTION_KEY": "k" * 40, "ENCRYPTION_SALT": "s" * 40, "ADMIN_API_KEY": "a" * 40}


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        ({"TRANSPORT": "inbox"}, InboxTransport),
        ({"TRANSPORT": "smtp", "SMTP_URL": URL, "SMTP_TIMEOUTS": "dot=7"}, SmtpTransport),
    ],
)
async def test_the_settings_choose_the_transport(
    db: Database, keyring: Keyring, environ: dict[str, str], kind: type
) -> None:
    settings = load_settings({**KEYS, **environ})
    secrets = await SecretsService.start(settings)
    try:
        async with open_transport(settings, secrets, db, keyring) as transport:
            assert isinstance(transport, kind)
            if isinstance(transport, SmtpTransport):
                assert transport._timeouts.dot == timedelta(seconds=7)
    finally:
        await secrets.close()


@pytest.mark.parametrize(
    ("app_env", "verdict"),
    [("development", Verdict.DELIVERED), ("test", Verdict.DELIVERED), ("staging", Verdict.KEPT)],
)
async def test_the_inbox_knows_whether_people_expect_their_mail(
    db: Database, keyring: Keyring, tenant_id: UUID, app_env: str, verdict: Verdict
) -> None:
    environ = {"APP_ENV": app_env, "USE_SECRETS_MANAGER": "false", "TRANSPORT": "inbox"}
    settings = load_settings({**KEYS, **environ})
    secrets = await SecretsService.start(settings)
    try:
        async with open_transport(settings, secrets, db, keyring) as transport:
            claims = replace(claims_for(1), tenant_id=tenant_id)
            mail = OutgoingMail(claims, "billing@acme.example", ("maria@example.net",), RAW)
            (outcome,) = await transport.send(mail, Recorder())
            assert outcome.verdict is verdict
    finally:
        await secrets.close()


def test_a_changed_url_counts_from_then_on_and_a_bad_one_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    urls: list[str | None] = ["smtp://one.example"]
    current = follow_smtp_url(lambda: urls[-1])
    assert current().host == "one.example"
    urls.append("smtp://two.example")
    assert current().host == "two.example"
    for bad in ("smtp://u:s3cret-Zq9@", "nonsense", "", None):
        urls.append(bad)
        assert current().host == "two.example"
    urls.append("smtp://three.example")
    assert current().host == "three.example"
    assert "s3cret-Zq9" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("url", [None, "", "smtp://user:s3cret-Zq9@", "smtp://user:s3cret-Zq9@host?tls=perhaps"])
def test_no_usable_url_to_begin_with_is_a_configuration_error(url: str | None) -> None:
    with pytest.raises(ConfigurationError) as refused:
        follow_smtp_url(lambda: url)
    assert "s3cret-Zq9" not in str(refused.value)
