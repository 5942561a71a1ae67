"""The smarthost's URL: what it says, what it defaults to, and that its password is never repeated."""

from pathlib import Path

import pytest

from email_gateway.mail.smarthosts import ClientCertificate, Credentials, SmtpTarget, Tls, parse_smtp_url
from email_gateway.settings import check_smtp_url

PASSWORD = "s3cret-Zq9"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("smtp://mail.example", SmtpTarget("mail.example", 25, Tls.OPPORTUNISTIC)),
        ("smtp://mail.example:2525?tls=none", SmtpTarget("mail.example", 2525, Tls.NONE)),
        ("smtp://MAIL.Example.?tls=required", SmtpTarget("mail.example", 25, Tls.REQUIRED)),
        ("smtp://127.0.0.1/?tls=opportunistic", SmtpTarget("127.0.0.1", 25, Tls.OPPORTUNISTIC)),
        ("smtp://[::1]:2525", SmtpTarget("::1", 2525, Tls.OPPORTUNISTIC)),
        ("smtp://u:p@mail.example", SmtpTarget("mail.example", 587, Tls.REQUIRED, Credentials("u", "p"))),
        ("smtp://u:p@mail.example?tls=none", SmtpTarget("mail.example", 587, Tls.NONE, Credentials("u", "p"))),
        (
            "smtp://a%40b.example:p%2F%3A%C3%A9@mail.example",
            SmtpTarget("mail.example", 587, Tls.REQUIRED, Credentials("a@b.example", "p/:é")),
        ),
        (
            "smtp://AKIAEXAMPLE:Aq+Am/U8ma@mail.example:2587",
            SmtpTarget("mail.example", 2587, Tls.REQUIRED, Credentials("AKIAEXAMPLE", "Aq+Am/U8ma")),
        ),
        (
            "smtp://a@b.example:p@s:s#?&=/ 100%@mail.example/?tls=none",
            SmtpTarget("mail.example", 587, Tls.NONE, Credentials("a@b.example", "p@s:s#?&=/ 100%")),
        ),
        (
            f"smtp://u:{'t' * 5000}@mail.example?auth=xoauth2",
            SmtpTarget("mail.example", 587, Tls.REQUIRED, Credentials("u", "t" * 5000, is_token=True)),
        ),
        (
            "smtp://mail.example?cert=/run/client.pem",
            SmtpTarget("mail.example", 25, Tls.REQUIRED, None, ClientCertificate(Path("/run/client.pem"))),
        ),
        (
            "smtps://mail.example?cert=/run/a%20b.pem&key=/run/client.key",
            SmtpTarget(
                "mail.example",
                465,
                Tls.IMPLICIT,
                None,
                ClientCertificate(Path("/run/a b.pem"), Path("/run/client.key")),
            ),
        ),
        ("smtp://:@mail.example", SmtpTarget("mail.example", 25, Tls.OPPORTUNISTIC)),
        ("smtps://u:p@mail.example", SmtpTarget("mail.example", 465, Tls.IMPLICIT, Credentials("u", "p"))),
    ],
)
def test_a_url_names_a_target(url: str, target: SmtpTarget) -> None:
    assert parse_smtp_url(url) == target


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mail.example",
        "http://mail.example",
        "smtp://",
        f"smtp://u:{PASSWORD}@",
        f"smtp://u:{PASSWORD}@mail.example:99999",
        f"smtp://u:{PASSWORD}@mail.example:0",
        f"smtp://u:{PASSWORD}@mail.example:port",
        f"smtp://u:{PASSWORD}@mail.example/path",
        f"smtp://u:{PASSWORD}@mail.example#part",
        f"smtp://u:{PASSWORD}@mail.example?tls=maybe",
        f"smtp://u:{PASSWORD}@mail.example?tls=none&tls=required",
        f"smtp://u:{PASSWORD}@mail.example?verify=no",
        f"smtp://u:{PASSWORD}@mail.example?auth=plain",
        f"smtp://u:{PASSWORD}@mail.example?auth=xoauth2&auth=xoauth2",
        f"smtp://u:{PASSWORD}{'x' * 8200}@mail.example?auth=xoauth2",
        "smtp://mail.example?auth=xoauth2",
        "smtp://mail.example?cert=client.pem",
        "smtp://mail.example?key=/run/client.key",
        "smtp://mail.example?cert=/run/client.pem&tls=opportunistic",
        "smtp://mail.example?cert=/run/client.pem&tls=none",
        f"smtp://u:{PASSWORD}@mail example",
        f"smtp://u:{PASSWORD}@mail_ex%0d%0aample",
        f"smtp://:{PASSWORD}@mail.example",
        f"smtp://{PASSWORD}@mail.example",
        f"smtp://u:{PASSWORD}%0d%0aRSET@mail.example",
        f"smtp://u:{PASSWORD}%00@mail.example",
        f"smtp://u:{PASSWORD}%ff@mail.example",
        f"smtp://u:{PASSWORD}\n@mail.example",
        f"smtp://u:{PASSWORD}@mail.exam\tple",
        f"smtp://u:{PASSWORD}/rest",
        f"smtp://u@{PASSWORD}@mail.example",
        f"smtp://u:{PASSWORD}{'x' * 300}@mail.example",
        f"smtps://u:{PASSWORD}@mail.example?tls=none",
        f"smtp://u:{PASSWORD}@[::1",
    ],
)
def test_a_bad_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"^must ") as refused:
        parse_smtp_url(url)
    assert PASSWORD not in str(refused.value)
    assert refused.value.__cause__ is None


def test_no_repr_shows_user_or_password() -> None:
    shown = repr(parse_smtp_url(f"smtp://someuser:{PASSWORD}@mail.example"))
    assert PASSWORD not in shown
    assert "someuser" not in shown


@pytest.mark.parametrize("tls", ["none", "opportunistic", "required"])
def test_the_settings_take_what_parses_as_it_stands(tls: str) -> None:
    url = f"smtp://u:p@mail.example:587?tls={tls}"
    assert check_smtp_url(url) == url
    assert parse_smtp_url(url).tls == tls
