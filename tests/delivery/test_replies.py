"""What replies mean: whom they speak of, the verdict, and the word for it."""

import time
from itertools import product

import pytest

from email_gateway.delivery import phrases
from email_gateway.delivery.phrases import AFTER_CODES, BEFORE_CODES, find_after_codes, find_before_codes, words_of
from email_gateway.delivery.replies import (
    AT_DOT,
    AT_RCPT,
    BY_ENHANCED,
    BY_SUBJECT,
    ELSEWHERE,
    Ruling,
    Stage,
    explain,
    rule,
    rule_failure,
)
from email_gateway.delivery.reply_parser import Reply
from email_gateway.mail.deliveries import Hardness, Scope, Verdict
from email_gateway.mail.reasons import DEAD_ADDRESS, REASONS, advice, is_throttle
from tests.delivery.saying import reply_of

B, D, H = Verdict.BOUNCED, Verdict.DEFERRED, Verdict.HELD
HARD, SOFT = Hardness.HARD, Hardness.SOFT
BEFORE_RCPT = [Stage.CONNECT, Stage.EHLO, Stage.STARTTLS, Stage.AUTH, Stage.MAIL]
OF_ITS_RECIPIENT = (Scope.RECIPIENT, Scope.MESSAGE)

CODES = [
    400,
    421,
    450,
    451,
    452,
    454,
    455,
    471,
    500,
    501,
    502,
    503,
    504,
    521,
    530,
    535,
    550,
    551,
    552,
    553,
    554,
    555,
    556,
]
ENHANCED = ["", *sorted({*BY_ENHANCED, *(f"{subject}.0" for subject in BY_SUBJECT), "0.0", "7.1", "9.9"})]


def every_ruling() -> list[tuple[Stage, Reply, Ruling]]:
    """Return what the table says to each stage, code and enhanced code, without words."""
    found = []
    for stage, code, enhanced in product(Stage, CODES, ENHANCED):
        reply = Reply(code, (f"{code // 100}.{enhanced} x".encode() if enhanced else b"x",))
        found.append((stage, reply, rule(stage, reply)))
    return found


@pytest.mark.parametrize("stage", list(Stage))
def test_a_positive_reply_delivers(stage: Stage) -> None:
    assert rule(stage, reply_of("250 2.0.0 ok")) == Ruling(Verdict.DELIVERED, "accepted", Scope.RECIPIENT, SOFT)


def test_only_what_speaks_of_the_recipient_or_the_message_bounces() -> None:
    for _, _, ruling in every_ruling():
        assert ruling.verdict is not B or ruling.scope in OF_ITS_RECIPIENT


def test_only_a_5xx_bounces_and_only_where_recipient_or_message_have_been_named() -> None:
    for stage, reply, ruling in every_ruling():
        if ruling.verdict is not B:
            continue
        assert reply.code >= 500
        assert stage in (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT)
        assert stage is not Stage.MAIL or ruling.reason in {"message_too_large", "smtputf8_not_offered"}
        assert stage is not Stage.DATA or ruling.scope is Scope.MESSAGE


def test_what_speaks_of_the_route_the_sender_or_us_is_held() -> None:
    for _, _, ruling in every_ruling():
        if ruling.scope in (Scope.ROUTE, Scope.OURS, Scope.SENDER) and ruling.reason != "too_many_recipients":
            assert ruling.verdict is H


def test_only_a_dead_address_that_bounces_is_hard() -> None:
    for _, _, ruling in every_ruling():
        is_dead = ruling.verdict is B and ruling.reason in DEAD_ADDRESS
        assert (ruling.hardness is HARD) is is_dead


def test_421_is_held_at_every_stage() -> None:
    for _, reply, ruling in every_ruling():
        assert reply.code != 421 or ruling.verdict is H


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize(
    "words", ["user unknown", "greylisted", "too many recipients", "mailbox full", "message rejected as spam"]
)
def test_421_is_held_whatever_it_says(stage: Stage, words: str) -> None:
    assert rule(stage, reply_of(f"421 4.7.0 {words}")) == Ruling(H, "service_closing", Scope.ROUTE, SOFT)


@pytest.mark.parametrize("stage", BEFORE_RCPT)
@pytest.mark.parametrize(
    "text",
    ["550 5.1.1 unknown", "554 no", "500 5.3.0 Error: command failed", "553 5.1.3 bad", "550 5.7.1 spam", "451 x"],
)
def test_before_rcpt_nothing_speaks_of_a_recipient(stage: Stage, text: str) -> None:
    ruling = rule(stage, reply_of(text))
    assert ruling.verdict is H
    assert ruling.scope not in OF_ITS_RECIPIENT


@pytest.mark.parametrize(
    ("stage", "text", "reason", "scope"),
    [
        (Stage.CONNECT, "554 5.7.1 no access for 192.0.2.1, listed at dnsbl.example", "blocklisted", Scope.OURS),
        (Stage.CONNECT, "554 no SMTP service here", "refused", Scope.ROUTE),
        (Stage.CONNECT, "421 4.7.0 too many connections", "too_many_connections", Scope.ROUTE),
        (Stage.EHLO, "502 unknown command", "command_refused", Scope.ROUTE),
        (Stage.EHLO, "550 bad HELO", "helo_refused", Scope.OURS),
        (Stage.STARTTLS, "454 4.7.0 TLS not available", "tls_refused", Scope.ROUTE),
        (Stage.AUTH, "535 5.7.8 bad credentials", "auth_failed", Scope.OURS),
        (Stage.AUTH, "550 5.7.1 no", "auth_failed", Scope.OURS),
        (Stage.AUTH, "454 4.7.0 Temporary authentication failure", "auth_unavailable", Scope.ROUTE),
        (Stage.AUTH, "538 5.7.11 encryption required", "tls_required", Scope.OURS),
        (Stage.AUTH, "535 5.7.0 Your account has been suspended", "account_suspended", Scope.OURS),
        (Stage.MAIL, "530 5.7.0 Must issue a STARTTLS command first", "tls_required", Scope.OURS),
        (Stage.MAIL, "550 5.1.1 user unknown", "sender_refused", Scope.SENDER),
        (Stage.MAIL, "550 5.7.1 no", "policy", Scope.SENDER),
        (Stage.MAIL, "451 4.3.0 temporary lookup failure", "server_trouble", Scope.ROUTE),
        (Stage.MAIL, "452 4.3.1 disk full", "server_full", Scope.ROUTE),
        (Stage.MAIL, "450 4.7.1 greylisted", "greylisted", Scope.ROUTE),
        (Stage.DATA, "503 5.5.1 no valid recipients", "out_of_sequence", Scope.ROUTE),
    ],
)
def test_a_refusal_of_us_is_held(stage: Stage, text: str, reason: str, scope: Scope) -> None:
    assert rule(stage, reply_of(text)) == Ruling(H, reason, scope, SOFT)


def test_a_message_that_is_too_large_bounces_at_mail_too() -> None:
    expected = Ruling(B, "message_too_large", Scope.MESSAGE, SOFT)
    assert rule(Stage.MAIL, reply_of("552 5.3.4 too big")) == expected
    assert rule(Stage.RCPT, reply_of("552 5.3.4 too big")) == expected


@pytest.mark.parametrize(
    "text", ["552 too many recipients", "452 too many recipients", "550 5.5.3 no", "452 4.5.3 no", "452"]
)
def test_too_many_recipients_is_a_matter_of_numbers(text: str) -> None:
    assert rule(Stage.RCPT, reply_of(text)) == Ruling(D, "too_many_recipients", Scope.ROUTE, SOFT)


def test_a_552_that_says_more_is_no_matter_of_numbers() -> None:
    assert explain(Stage.RCPT, reply_of("552 5.2.2 no")) == "mailbox_full"
    assert explain(Stage.RCPT, reply_of("552 Mailbox full")) == "mailbox_full"
    assert explain(Stage.DOT, reply_of("552 quota exceeded")) == "mailbox_full"


def test_an_unclear_refusal_of_data_counts_and_bounces_nobody() -> None:
    assert rule(Stage.DATA, reply_of("550 5.7.1 no")) == Ruling(D, "policy", Scope.MESSAGE, SOFT)
    assert rule(Stage.DATA, reply_of("550 5.1.1 no")) == Ruling(D, "mailbox_unknown", Scope.RECIPIENT, SOFT)


def test_a_content_that_is_refused_while_it_is_sent_bounces() -> None:
    assert rule(Stage.DATA, reply_of("552 5.3.4 too big")) == Ruling(B, "message_too_large", Scope.MESSAGE, SOFT)


def test_a_mailbox_that_is_refused_after_the_dot_is_hard_only_where_it_is_the_only_one() -> None:
    reply = reply_of("550 5.1.1 user unknown")
    assert rule(Stage.DOT, reply) == Ruling(B, "mailbox_unknown", Scope.RECIPIENT, HARD)
    assert rule(Stage.DOT, reply, recipients=2) == Ruling(B, "mailbox_unknown", Scope.RECIPIENT, SOFT)


ECHOED = [
    "spam@example.net",
    "relay-access-denied@quota.example",
    "virus.dmarc@spf.net",
    '"sending paused for this account"@example.net',
    "<helo rejected: rate limit>",
]


@pytest.mark.parametrize("address", ECHOED)
def test_the_address_that_a_server_repeats_changes_no_word(address: str) -> None:
    assert explain(Stage.RCPT, reply_of(f"550 5.7.1 <{address}>: refused")) == "policy"
    assert explain(Stage.RCPT, reply_of(f"550 5.1.1 {address}: refused")) == "mailbox_unknown"


def test_codes_amid_a_sentence_of_many_lines_do_not_part_its_words() -> None:
    said = reply_of("550-5.7.1 Daily SMTP relay\r\n550 5.7.1 sending limit exceeded")
    assert words_of(said) == "daily smtp relay sending limit exceeded"


HOSTILE = [
    "a" * 50_000,
    "<" * 50_000,
    '"' * 50_000,
    "a " * 25_000,
    "@ " * 25_000,
    "1.1.1 " * 9_000,
    *(
        f"{word} " * (50_000 // (len(word) + 1))
        for word in ("account", "too many", "messages", "your", "limite de", "host")
    ),
    *(word + " a" * 25_000 for word in ("recipient exceeded", "sending", "client")),
    *(word + " " + "a" * 50_000 for word in ("not", "domain", "usu", "conta", "sender")),
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:12])
def test_no_pattern_takes_long_over_50_kb(text: str) -> None:
    patterns = [pattern for _, pattern in (*phrases._BEFORE, *phrases._AFTER)]
    for pattern in (*patterns, phrases._BRACKETS, phrases._QUOTED_LOCAL_PART):
        begun = time.process_time()
        pattern.search(text)
        assert time.process_time() - begun < 0.2, pattern.pattern[:40]


@pytest.mark.parametrize(
    "reason", sorted({*dict(BEFORE_CODES), *dict(AFTER_CODES), *BY_ENHANCED.values(), *BY_SUBJECT.values()})
)
def test_every_reason_that_is_found_has_a_meaning(reason: str) -> None:
    assert reason in REASONS


def test_every_reason_of_a_bare_code_has_a_meaning() -> None:
    assert {*AT_RCPT.values(), *AT_DOT.values(), *ELSEWHERE.values()} <= REASONS.keys()


def test_every_phrase_is_found_by_its_own_table() -> None:
    assert find_before_codes("greylisted") == "greylisted"
    assert find_after_codes("greylisted") is None


FAILURES = [
    (Stage.CONNECT, "connect_failed", H, Scope.ROUTE),
    (Stage.CONNECT, "timeout", H, Scope.ROUTE),
    (Stage.EHLO, "connection_lost", H, Scope.ROUTE),
    (Stage.EHLO, "protocol_error", H, Scope.ROUTE),
    (Stage.STARTTLS, "tls_failed", H, Scope.ROUTE),
    (Stage.STARTTLS, "certificate_invalid", H, Scope.ROUTE),
    (Stage.STARTTLS, "tls_not_offered", H, Scope.ROUTE),
    (Stage.AUTH, "tls_not_offered", H, Scope.ROUTE),
    (Stage.AUTH, "auth_not_offered", H, Scope.OURS),
    (Stage.AUTH, "auth_failed", H, Scope.OURS),
    (Stage.CONNECT, "no_free_connection", H, Scope.OURS),
    (Stage.MAIL, "connection_lost", H, Scope.ROUTE),
    (Stage.RCPT, "connection_lost", D, Scope.MESSAGE),
    (Stage.DATA, "timeout", D, Scope.MESSAGE),
    (Stage.DATA, "lease_ended", H, Scope.OURS),
    (Stage.MAIL, "message_too_large", B, Scope.MESSAGE),
    (Stage.RCPT, "address_invalid", B, Scope.RECIPIENT),
    (Stage.RCPT, "smtputf8_not_offered", B, Scope.MESSAGE),
    (Stage.DOT, "connection_lost", Verdict.IN_DOUBT, Scope.ROUTE),
    (Stage.DOT, "timeout", Verdict.IN_DOUBT, Scope.ROUTE),
    (Stage.DOT, "protocol_error", Verdict.IN_DOUBT, Scope.ROUTE),
]


@pytest.mark.parametrize(("stage", "reason", "verdict", "scope"), FAILURES)
def test_an_end_without_a_reply_is_ruled_by_how_far_it_came(
    stage: Stage, reason: str, verdict: Verdict, scope: Scope
) -> None:
    assert rule_failure(stage, reason) == Ruling(verdict, reason, scope, SOFT)


def test_a_sender_that_no_command_can_carry_is_held() -> None:
    assert rule_failure(Stage.MAIL, "address_invalid") == Ruling(H, "address_invalid", Scope.SENDER, SOFT)


def test_every_reason_to_hold_has_advice() -> None:
    held = {(ruling.reason, ruling.scope) for _, _, ruling in every_ruling() if ruling.verdict is H}
    held |= {(reason, entry.scope) for reason, entry in REASONS.items() if entry.scope}
    held |= {(reason, scope) for _, reason, verdict, scope in FAILURES if verdict is H}
    for reason, scope in held:
        said = advice(reason, scope)
        assert reason in REASONS
        assert said.endswith(".")
        assert "@" not in said


def test_advice_says_what_to_do() -> None:
    assert advice("auth_failed", Scope.OURS) == (
        "The server refuses the login, or wants one. "
        "Put the right user and password into the secret `smtp-url`; mail flows by itself then."
    )


def test_two_reasons_ask_for_less_at_a_time() -> None:
    assert {reason for reason in REASONS if is_throttle(reason)} == {"rate_limited", "too_many_connections"}
