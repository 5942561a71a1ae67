"""Webhooks as nouns: endpoints that are refused, addresses that are no targets, signatures that others verify."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network

import pytest
import resend
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from email_gateway.mail.encoding import InvalidValue
from email_gateway.mail.webhooks import EVENTS, WORDS, is_allowed, new_secret, parse_endpoint, parse_events, sign

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@pytest.mark.parametrize(
    ("text", "host", "port", "target"),
    [
        ("https://hooks.example.com/a/b?token=x&y=1", "hooks.example.com", 443, "/a/b?token=x&y=1"),
        ("https://Hooks.Example.com", "hooks.example.com", 443, "/"),
        ("https://hooks.example.com:8443?x", "hooks.example.com", 8443, "/?x"),
        ("https://93.184.215.14/", "93.184.215.14", 443, "/"),
        ("https://[2606:2800:21f::1]/", "2606:2800:21f::1", 443, "/"),
    ],
)
def test_an_endpoint_is_read(text: str, host: str, port: int, target: str) -> None:
    endpoint = parse_endpoint(text, ())
    assert (endpoint.host, endpoint.port, endpoint.is_tls, endpoint.target) == (host, port, True, target)
    assert "token" not in repr(endpoint)


REFUSED = [
    "", "hooks.example.com", "ftp://hooks.example.com/", "https://", "https:///x", "https://hooks", "http://hooks.example.com/",
    "https://user:password@hooks.example.com/", "https://hooks.example.com/#x", "https://hooks.example.com:0/",
    "https://hooks.example.com:99999/", "https://hooks.example.com/a b", "https://hooks.example.com/\r\nX: y",
    "https://hooks.example.com/é", "https://hooks.example.com\\@127.0.0.1/", "https://localhost/", "https://127.0.0.1/",
    "https://127.1/", "https://2130706433/", "https://0x7f.0.0.1/", "https://0177.0.0.1/", "https://[::1]/", "https://[fe80::1%25eth0]/",
    "https://[::ffff:127.0.0.1]/", "https://169.254.169.254/latest/meta-data/", "https://10.0.0.1/", "https://0.0.0.0/",
    "https://hooks.example.com." + "/x", "https://" + "a" * 64 + ".example/", "https://hooks.example.com/" + "x" * 2048,
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        parse_endpoint(text, ())


def test_plain_http_is_for_this_machine_and_only_where_it_is_allowed() -> None:
    for text in ("http://127.0.0.1:8000/x", "http://localhost:8000/x", "http://[::1]:8000/x", "https://127.0.0.1/x"):
        assert parse_endpoint(text, LOOPBACK).host in {"127.0.0.1", "localhost", "::1"}
        with pytest.raises(InvalidValue):
            parse_endpoint(text, ())
    with pytest.raises(InvalidValue):
        parse_endpoint("http://10.0.0.1/", (ip_network("10.0.0.0/8"),))
    assert parse_endpoint("https://10.0.0.1/", (ip_network("10.0.0.0/8"),)).host == "10.0.0.1"


NO_TARGETS = [
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "168.63.129.16", "::", "::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1",
    "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "100::1", "2001:db8::1", "3fff::1", "2002:7f00:1::",
    "2002:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:80ff:fffe", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_TARGETS)
def test_an_address_that_is_not_public_is_no_target(text: str) -> None:
    assert not is_allowed(ip_address(text), ())


@pytest.mark.parametrize("text", ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_a_public_address_is_a_target(text: str) -> None:
    assert is_allowed(ip_address(text), ())


def test_a_network_of_the_operators_is_let_through_also_in_its_other_spelling() -> None:
    networks = (ip_network("10.0.0.0/8"),)
    assert is_allowed(ip_address("10.1.2.3"), networks)
    assert is_allowed(ip_address("::ffff:10.1.2.3"), networks)
    assert not is_allowed(ip_address("192.168.0.1"), networks)


def test_events_are_those_that_are_made() -> None:
    assert parse_events([*EVENTS, "email.sent"]) == EVENTS
    assert set(WORDS.values()) == set(EVENTS)
    for wrong in ([], ["email.opened"], ["email.sent", ""]):
        with pytest.raises(InvalidValue):
            parse_events(wrong)


def test_secrets_differ_and_are_long_enough() -> None:
    assert new_secret() != new_secret()
    assert new_secret().startswith("whsec_")


@given(st.text(max_size=50).map(lambda text: text.encode("utf-8", "ignore")))
def test_others_verify_what_is_signed_under_the_new_secret_and_the_old(body: bytes) -> None:
    new, old = new_secret(), new_secret()
    headers = sign(body, "an-id", datetime.now(UTC), [new, old])
    for secret in (new, old):
        for prefix in ("webhook", "svix"):
            chosen = {f"webhook-{name}": headers[f"{prefix}-{name}"] for name in ("id", "timestamp", "signature")}
            Webhook(secret).verify(body, chosen, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(body, headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(body + b"x", headers, json_parse=False)


def test_resends_own_sdk_verifies_and_refuses_what_is_old() -> None:
    secret, body = new_secret(), b'{"type": "email.sent"}'
    for age, is_right in ((0, True), (600, False)):
        headers = sign(body, "an-id", datetime.now(UTC) - timedelta(seconds=age), [secret])
        options: resend.VerifyWebhookOptions = {
            "payload": body.decode(),
            "headers": {name: headers[f"svix-{name}"] for name in ("id", "timestamp", "signature")},  # type: ignore[typeddict-item]
            "webhook_secret": secret,
        }
        if is_right:
            assert resend.Webhooks.verify(options)["type"] == "email.sent"
        else:
            with pytest.raises(ValueError, match="tolerance"):
                resend.Webhooks.verify(options)
