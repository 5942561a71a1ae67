import json
from typing import Any

import pytest

from email_gateway.secrets.secret import SECRETS, SecretName
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
