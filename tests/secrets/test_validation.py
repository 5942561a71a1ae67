import base64
import json
import re
import secrets
import string
from typing import Any

import pytest

from email_gateway.secrets.secret import SECRETS, KnownSecret, SecretName
from email_gateway.secrets.validation import read_database_url, strip_secret

RDS = {"engine": "postgres", "host": "db", "port": 5432, "username": "u", "password": "p", "dbname": "d"}


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({}, "postgresql://u:p@db:5432/d"),
        ({"port": "6432"}, "postgresql://u:p@db:6432/d"),
        ({"engine": "aurora-postgresql"}, "postgresql://u:p@db:5432/d"),
        ({"host": "::1"}, "postgresql://u:p@[::1]:5432/d"),
        ({"password": "a:/?#[]@% \u00e9"}, "postgresql://u:a%3A%2F%3F%23%5B%5D%40%25%20%C3%A9@db:5432/d"),
        ({"sslmode": "verify-full"}, "postgresql://u:p@db:5432/d?sslmode=verify-full"),
        (
            {"sslmode": "verify-full", "sslrootcert": "/etc/rds ca.pem"},
            "postgresql://u:p@db:5432/d?sslmode=verify-full&sslrootcert=%2Fetc%2Frds+ca.pem",
        ),
        ({"masterarn": "arn:aws:x"}, "postgresql://u:p@db:5432/d"),
    ],
)
def test_the_json_of_rds_is_read(changes: dict[str, Any], url: str) -> None:
    assert read_database_url(json.dumps({**RDS, **changes})) == url


def test_port_may_be_left_out() -> None:
    assert read_database_url(json.dumps({k: v for k, v in RDS.items() if k != "port"})).endswith("@db:5432/d")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"a":' * 100_000,
        json.dumps({**RDS, "engine": "mysql"}),
        json.dumps({**RDS, "engine": ["postgres"]}),
        json.dumps({**RDS, "password": ""}),
        json.dumps({**RDS, "password": 7}),
        json.dumps({**RDS, "port": "MARK"}),
        json.dumps({"username": "u", "password": "MARK"}),
        "mysql://u:MARK@h/d",
        "MARK",
    ],
)
def test_another_form_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(ValueError, match="must ") as refused:
        read_database_url(text)
    assert "MARK" not in str(refused.value)


@pytest.mark.parametrize("text", [None, b"bytes", 7, "", " \n", "a\ud800"])
def test_what_is_no_text_is_no_secret(text: object) -> None:
    with pytest.raises(ValueError, match="must "):
        strip_secret(text)


def test_line_ends_of_editors_do_not_count() -> None:
    assert strip_secret(" value\r\n") == "value"


def test_three_secrets_are_critical() -> None:
    assert {known.name for known in SECRETS if known.is_critical} == {
        SecretName.ENCRYPTION_KEY,
        SecretName.ENCRYPTION_SALT,
        SecretName.ADMIN_API_KEY,
    }
    assert [known.name for known in SECRETS] == list(SecretName)


KEY = "MARK4d1f0e6c8a4b4f8e9c550123456789abzZ"
SMTP_URL = "smtp://user:MARK-password@mail.example.com:587"
PEM = f"-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----"
WRAPPED = [
    (json.dumps({"encryption-key": KEY}), 'console\'s "Key/value"'),
    (json.dumps({"value": KEY}, indent=2), "a JSON object"),
    (json.dumps([KEY]), "a JSON list"),
    ("{'encryption-key': '" + KEY + "'}", "something like JSON"),
    ("{encryption-key:" + KEY + "}", "something like JSON"),
    ("[" * 100_000 + "]" * 100_000, "something like JSON"),
    (json.dumps(KEY), "in quotes"),
    (f"'{KEY}'", "in quotes"),
    (f"`{KEY}`", "in quotes"),
    (f"ENCRYPTION_KEY={KEY}", "KEY=value"),
    (f"export ENCRYPTION_KEY={KEY}", "KEY=value"),
    (f"SOME_OTHER_NAME = {KEY}", "KEY=value"),
    (f"encryption-key: {KEY}", "KEY=value"),
    (f"encryption_key={KEY}", "KEY=value"),
    (f'"encryption-key": "{KEY}', "KEY=value"),
    (f"secret={KEY}", "KEY=value"),
    (f"ENCRYPTION_KEY={KEY}\nENCRYPTION_SALT={KEY}x", "KEY=value"),
    (PEM, "a PEM block"),
    (PEM.replace("\n", " "), "a PEM block"),
]


def known(name: str) -> KnownSecret:
    return next(each for each in SECRETS if each.name == name)


def refused(name: str, text: str) -> str:
    with pytest.raises(ValueError, match="must be ") as wrong:
        known(name).read_stored(text)
    assert "MARK" not in str(wrong.value)
    return str(wrong.value)


@pytest.mark.parametrize(("text", "form"), WRAPPED)
def test_a_wrapping_of_the_value_is_named(text: str, form: str) -> None:
    assert form in refused("encryption-key", text)
    assert form in refused("encryption-key", f" {text}\r\n")


@pytest.mark.parametrize(("text", "form"), WRAPPED)
def test_base64_of_a_wrapping_is_a_wrapping(text: str, form: str) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes):
        told = refused("encryption-key", encode(text.encode()).decode())
        assert "base64 of a wrapping" in told
        assert form in told
    assert "base64" in refused("encryption-key", base64.b64encode(text.encode()).decode().rstrip("="))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("changeme-changeme-changeme-changeme", "a placeholder"),
        ("CHANGE_ME_TO_SOMETHING_WITH_32_CHARACTERS", "a placeholder"),
        ("your-local-dev-key-at-least-32-chars", "a placeholder"),
        ("your-super-secret-key-here-0123456789", "a placeholder"),
        ("replace-this-with-32-random-characters", "a placeholder"),
        ("insert your key here, thirty-two or more", "a placeholder"),
        ("changeMeToSomethingWith32OrMoreCharacters", "a placeholder"),
        ("the-secret-goes-here-0123456789-0123456789", "a placeholder"),
        ("test-secret-key-0123456789-0123456789", "a placeholder"),
        ("<the encryption key, 32 or more characters>", "a template"),
        ("${ENCRYPTION_KEY_OF_THE_EMAIL_GATEWAY}", "a template"),
        ("{{ .Values.emailGateway.encryptionKey }}", "a template"),
        ("{{resolve:secretsmanager:email-gateway/encryption-key}}", "a template"),
        ("k" * 40, "repeated"),
        ("0101" * 10, "repeated"),
        ("arn:aws:secretsmanager:us-east-1:123456789012:secret:email-gateway/encryption-key-a1b2C3", "an ARN"),
        ("arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/4d1f0e6c", "an ARN"),
        ("email-gateway/encryption-key", "own name"),
        ("company/team/email-gateway/encryption-key-a1b2C3", "own name"),
        ("ENCRYPTION_KEY", "own name"),
    ],
)
def test_what_cannot_be_a_key_is_named(text: str, what: str) -> None:
    assert what in refused("encryption-key", text)


@pytest.mark.parametrize(
    "text",
    [
        "the-latest-key-of-a-careful-operator-0123",  # holds "test-key"
        "[Ab3$x9Kq2Lm8Zr5Tn7Vw4Yc6Bd1Fg0Hj3Kp5Qs]",
        "{Ab3$x9Kq2Lm8Zr5Tn7Vw4Yc6Bd1Fg0Hj3Kp5Qs}",
        "<Ab3$x9Kq2Lm8Zr5Tn7Vw4Yc6Bd1Fg0Hj3Kp5Qs>",
        "'Ab3$x9Kq2Lm8Zr5Tn7Vw4Yc6Bd1Fg0Hj3Kp5Qs`",
        "Ab3=x9Kq2Lm8Zr5Tn7Vw4Yc6Bd1Fg0Hj3Kp5Qsxx",
    ],
)
def test_what_only_resembles_a_wrapping_is_a_key(text: str) -> None:
    assert known("encryption-key").read_stored(text) == text


def test_base64_of_base64_is_looked_into() -> None:
    once = base64.b64encode(json.dumps({"a": KEY}).encode())
    assert "a JSON object" in refused("encryption-key", base64.b64encode(once).decode())


@pytest.mark.parametrize("name", ["smtp-url", "redis-url", "database-url"])
def test_urls_are_wrapped_as_keys_are(name: str) -> None:
    right = {
        "smtp-url": SMTP_URL,
        "redis-url": "rediss://user:MARK@host:6379/0",
        "database-url": "postgresql://u:MARK@h/d",
    }[name]
    assert known(name).read_stored(right) == right
    for wrapped in (json.dumps({name: right}), f"'{right}'", f"{name.upper().replace('-', '_')}={right}"):
        assert "the value alone" in refused(name, wrapped)
        assert "base64" in refused(name, base64.b64encode(wrapped.encode()).decode())
    with pytest.raises(ValueError, match="must "):
        known(name).read_stored("k" * 40)


def test_the_json_that_rds_keeps_is_no_wrapping() -> None:
    assert known("database-url").read_stored(json.dumps(RDS)) == "postgresql://u:p@db:5432/d"
    assert "RDS keeps" in refused("database-url", json.dumps({**RDS, "password": ""}))


LOOKS_WRAPPED = re.compile(r"""(['"`]).*\1|\[['"{\[].*\]|\{['"]?[\w./-]+['"]?[:=].*\}""")


def test_a_value_made_at_random_is_taken_however_it_was_made() -> None:
    alphabet = string.ascii_letters + string.digits + string.punctuation  # as get-random-password has it
    for _ in range(2_000):
        raw = secrets.token_bytes(32)
        for text in (base64.b64encode(raw).decode(), raw.hex(), secrets.token_urlsafe(32), secrets.token_hex(16)):
            assert known("encryption-key").read_stored(text) == text
    for _ in range(5_000):
        text = "".join(secrets.choice(alphabet) for _ in range(48))
        # A pair of quotes is refused, once in three thousand, and what begins as JSON does, once in two hundred thousand.
        if not LOOKS_WRAPPED.fullmatch(text):
            assert known("admin-api-key").read_stored(text) == text
    assert known("encryption-key").read_stored(base64.b64encode(KEY.encode()).decode())  # a key, encoded once more
    assert known("encryption-key").read_stored("=" + KEY) == "=" + KEY
    for in_brackets in ("[" + KEY + "]", "{" + KEY + "}"):
        assert known("encryption-key").read_stored(in_brackets) == in_brackets
