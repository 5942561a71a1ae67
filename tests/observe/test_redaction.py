import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from email_gateway.mail.deliveries import Verdict
from email_gateway.observe.redaction import HIDDEN, clean_event, clean_text

ID = uuid.UUID("01890a5d-ac96-774b-bcce-b302099a8057")


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("message_id", ID, str(ID)),
        ("anything", ID, str(ID)),
        ("anything", True, True),
        ("anything", None, None),
        ("anything", Verdict.BOUNCED, "bounced"),
        ("waited", timedelta(seconds=1.5), 1.5),
        ("expires_at", datetime(2030, 1, 1, tzinfo=UTC), "2030-01-01T00:00:00+00:00"),
        ("route", "/v1/emails/{id}", "/v1/emails/{id}"),
        ("method", "POST", "POST"),
        ("status", 202, 202),
        ("age_seconds", 12.5, 12.5),
        ("error", "database_unavailable", "database_unavailable"),
        ("name", "email-gateway/encryption-key", "email-gateway/encryption-key"),
        ("version_ids", {"encryption-key": "v-1"}, {"encryption-key": "v-1"}),
        ("names", ["smtp-url"], ["smtp-url"]),
    ],
)
def test_what_is_known_to_be_safe_is_shown(key: str, value: object, shown: object) -> None:
    assert clean_event({key: value}) == {key: shown}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("address", "ana@example.net"),
        ("to", ["ana@example.net"]),
        ("subject", "Invoice"),
        ("tax_id", "52998224725"),
        ("tax_id", 52998224725),
        ("external_id", "customer-1"),
        ("password", "MARK"),
        ("token", "abc"),
        ("born", datetime(1980, 1, 1, tzinfo=UTC)),
        ("amount", 1200),
        ("name", "Ana Silva"),
        ("name", "ana"),
        ("error", "Key (address)=(x) already exists."),
        ("error", "ana@example.net"),
        ("reason", "52998224725"),
        ("reason", "529.982.247-25"),
        ("reason", "12.ABC.345/01DE-35"),
        ("route", "/v1/emails?to=ana"),
        ("status", float("nan")),
        ("body", b"bytes"),
        ("settings", object()),
        ("message_id", "<" + "a" * 300 + ">"),
    ],
)
def test_anything_else_is_hidden(key: str, value: object) -> None:
    cleaned: Any = clean_event({key: value})
    assert cleaned[key] in (HIDDEN, [HIDDEN])


def test_keys_of_a_mapping_are_hidden_like_values() -> None:
    assert clean_event({"result": {"ana@example.net": 1}}) == {"result": {HIDDEN: 1}}
    assert clean_event({"ana@example.net": "x"}) == {HIDDEN: HIDDEN}


def test_a_value_nested_too_deep_is_hidden() -> None:
    assert clean_event({"result": [[[["x"]]]]}) == {"result": [[[HIDDEN]]]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mail to ana@example.net waits", f"mail to {HIDDEN} waits"),
        ("CPF 529.982.247-25 or 52998224725", f"CPF {HIDDEN} or {HIDDEN}"),
        ("CNPJ 12.ABC.345/01DE-35", f"CNPJ {HIDDEN}"),
        ("at postgresql://user:p:w/x@host/db is", f"at postgresql://{HIDDEN} is"),
        ("one\nline\x1b[31m", "one line [31m"),
        (f"message {ID} of 2026-11-23", f"message {ID} of 2026-11-23"),
    ],
)
def test_sentences_lose_addresses_tax_ids_and_credentials(text: str, shown: str) -> None:
    assert clean_text(text) == shown
