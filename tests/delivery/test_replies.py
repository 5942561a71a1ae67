"""What replies mean: whom a refusal is about, and the word for it."""

import pytest

from email_gateway.delivery.replies import Stage, classify, explain
from email_gateway.delivery.reply_parser import Reply
from email_gateway.mail.deliveries import Verdict

D, B = Verdict.DEFERRED, Verdict.BOUNCED


def reply_of(text: str) -> Reply:
    return Reply(int(text[:3]), (text[4:].encode(),))


@pytest.mark.parametrize("stage", list(Stage))
def test_a_positive_reply_delivers(stage: Stage) -> None:
    assert classify(stage, reply_of("250 2.0.0 ok")) == (Verdict.DELIVERED, "accepted")


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("text", ["421 4.3.2 closing", "450 4.2.1 busy", "451 oops", "452 4.2.2 full", "400 x"])
def test_a_4xx_defers_at_every_stage(stage: Stage, text: str) -> None:
    assert classify(stage, reply_of(text))[0] is D


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("text", ["550 5.1.1 unknown", "554 no", "500 5.3.0 Error: command failed", "553 5.1.3 bad"])
def test_a_5xx_bounces_at_rcpt_and_dot_and_is_ours_elsewhere(stage: Stage, text: str) -> None:
    expected = B if stage in (Stage.RCPT, Stage.DOT) else D
    assert classify(stage, reply_of(text))[0] is expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("530 5.7.0 Authentication required", "auth_failed"),
        ("535 5.7.8 bad credentials", "auth_failed"),
        ("503 5.5.1 need MAIL first", "out_of_sequence"),
        ("554 5.7.1 <maria@example.net>: Relay access denied", "relay_denied"),
        ("550 5.7.1 Unable to relay", "relay_denied"),
        ("550 relay not permitted", "relay_denied"),
        ("552 too many recipients", "too_many_recipients"),
        ("452 too many recipients", "too_many_recipients"),
        ("550 5.5.3 too many recipients", "too_many_recipients"),
    ],
)
def test_a_refusal_of_us_at_rcpt_bounces_nobody(text: str, reason: str) -> None:
    assert classify(Stage.RCPT, reply_of(text)) == (D, reason)


def test_a_message_that_is_too_large_bounces_at_mail_too() -> None:
    assert classify(Stage.MAIL, reply_of("552 5.3.4 too big")) == (B, "message_too_large")
    assert classify(Stage.MAIL, reply_of("452 4.3.1 disk full")) == (D, "server_full")


def test_552_with_an_enhanced_code_is_no_matter_of_numbers() -> None:
    assert classify(Stage.RCPT, reply_of("552 5.2.2 mailbox full")) == (B, "mailbox_full")
    assert classify(Stage.DOT, reply_of("552 quota exceeded")) == (B, "mailbox_full")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("550 5.1.1 <maria@example.net>: no such user", "mailbox_unknown"),
        ("550 Requested action not taken: mailbox unavailable", "mailbox_unknown"),
        ("550 5.5.0 No such user here", "mailbox_unknown"),
        ("554 5.7.1 : Recipient address rejected: User unknown", "mailbox_unknown"),
        ("550 5.1.2 bad destination system", "domain_unknown"),
        ("556 5.1.10 null MX", "domain_unknown"),
        ("556 the domain accepts no mail", "domain_unknown"),
        ("550 5.2.1 disabled", "mailbox_disabled"),
        ("554 5.0.0 This account has been disabled", "mailbox_disabled"),
        ("525 5.7.13 user account disabled", "mailbox_disabled"),
        ("452 4.2.2 The recipient's inbox is out of storage space", "mailbox_full"),
        ("550 5.7.1 Message rejected as spam", "spam"),
        ("554 Service unavailable; client host [192.0.2.1] blocked using a DNSBL", "spam"),
        ("550 5.7.1 Our system has detected poor reputation", "spam"),
        ("550 5.7.26 unauthenticated", "sender_unauthenticated"),
        ("550 5.7.1 does not pass DMARC verification", "sender_unauthenticated"),
        ("550 5.7.0 virus found", "malware"),
        ("554 5.7.1 rejected for local policy", "policy"),
        ("550 5.7.1 no", "policy"),
        ("450 4.7.1 Greylisted, see you in five minutes", "greylisted"),
        ("450 4.7.0 rate limit exceeded", "rate_limited"),
        ("450 4.2.0 mailbox busy", "mailbox_unavailable"),
        ("450 mailbox busy", "mailbox_unavailable"),
        ("451 local error", "server_trouble"),
        ("554 5.4.6 loop", "mail_loop"),
        ("550 5.6.1 media not supported", "content_refused"),
        ("421 4.7.0 try again", "service_closing"),
        ("500 5.3.0 Error: command failed", "server_trouble"),
        ("571 nothing to say", "refused"),
        ("471 nothing to say", "temporary_failure"),
    ],
)
def test_each_reply_has_its_word(text: str, reason: str) -> None:
    assert explain(Stage.RCPT, reply_of(text)) == reason


@pytest.mark.parametrize("address", ["spam@example.net", "relay-access-denied@quota.example", "virus.dmarc@spf.net"])
def test_the_address_that_a_server_repeats_changes_no_word(address: str) -> None:
    assert explain(Stage.RCPT, reply_of(f"550 5.7.1 <{address}>: refused")) == "policy"
