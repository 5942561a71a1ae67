"""Encryption and login: what is verified, what falls back, and that no password crosses in clear."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from email_gateway.delivery.opening import local_name
from email_gateway.delivery.smarthost import SmtpTransport
from email_gateway.delivery.target import Timeouts, parse_smtp_url
from email_gateway.mail.deliveries import Outcome, Scope, Verdict
from tests.delivery.attempting import Recorder, outgoing, transport_to
from tests.delivery.certificates import Authority
from tests.smtp_servers import Say, Script, SmtpServer

pytestmark = pytest.mark.anyio

PASSWORD = "s3cret-Zq9"
USERS = {"user": PASSWORD}
LOGIN = f"user:{PASSWORD}@"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


async def send_to(server: SmtpServer, tls: str, *, user: str = "", trust: ssl.SSLContext | None = None) -> Outcome:
    async with server, transport_to(server, tls, user=user, trust=trust) as transport:
        (outcome,) = await transport.send(outgoing(), Recorder())
    return outcome


def assert_nothing_in_clear(server: SmtpServer) -> None:
    in_clear = b"\n".join(heard.line for heard in server.heard if not heard.is_encrypted)
    for secret in (PASSWORD.encode(), b64encode(PASSWORD.encode()), b"maria", b"MAIL", b"AUTH"):
        assert secret not in in_clear
    assert not server.receipts


async def test_a_verified_server_gets_the_mail_encrypted_after_a_second_ehlo(authority: Authority) -> None:
    server = SmtpServer(tls=authority.server())
    outcome = await send_to(server, "required", trust=authority.trust())
    assert outcome.verdict is Verdict.DELIVERED
    assert server.receipts[0].is_encrypted
    assert server.verbs()[:3] == ["EHLO", "STARTTLS", "EHLO"]


async def test_implicit_tls_is_encrypted_from_the_first_octet(authority: Authority) -> None:
    server = SmtpServer(tls=authority.server(), is_implicit=True)
    async with server:
        target = parse_smtp_url(f"smtps://127.0.0.1:{server.port}")
        transport = SmtpTransport(lambda: target, trust=authority.trust())
        (outcome,) = await transport.send(outgoing(), Recorder())
        await transport.close()
    assert outcome.verdict is Verdict.DELIVERED
    assert all(heard.is_encrypted for heard in server.heard)


@pytest.mark.parametrize("kind", ["expired", "wrong name", "self-signed", "unknown authority"])
async def test_required_tls_refuses_a_certificate_that_proves_nothing(authority: Authority, kind: str) -> None:
    context = {
        "expired": lambda: authority.server(expired=True),
        "wrong name": lambda: authority.server("mail.example"),
        "self-signed": lambda: authority.server(self_signed=True),
        "unknown authority": lambda: Authority().server(),
    }[kind]()
    server = SmtpServer(tls=context, users=USERS)
    outcome = await send_to(server, "required", user=LOGIN, trust=authority.trust())
    assert (outcome.verdict, outcome.stage, outcome.reason) == (Verdict.HELD, "starttls", "certificate_invalid")
    assert_nothing_in_clear(server)


async def test_required_tls_trusts_the_system_and_not_whoever_signs(authority: Authority) -> None:
    server = SmtpServer(tls=authority.server())
    outcome = await send_to(server, "required")
    assert outcome.reason == "certificate_invalid"


async def test_opportunistic_tls_takes_any_certificate(authority: Authority) -> None:
    server = SmtpServer(tls=authority.server("mail.example", expired=True, self_signed=True))
    outcome = await send_to(server, "opportunistic")
    assert outcome.verdict is Verdict.DELIVERED
    assert server.receipts[0].is_encrypted


@pytest.mark.parametrize(
    "script",
    [{}, {"STARTTLS": Say(b"454 4.7.0 not now\r\n")}, {"STARTTLS": Say(b"502 5.5.1 never\r\n")}],
)
async def test_required_tls_sends_nothing_where_starttls_is_stripped_or_refused(script: Script) -> None:
    offered = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if script else None
    server = SmtpServer(script=script, tls=offered, users=USERS)
    outcome = await send_to(server, "required", user=LOGIN)
    assert (outcome.verdict, outcome.stage) == (Verdict.HELD, "starttls")
    assert outcome.reason == ("tls_refused" if script else "tls_not_offered")
    assert_nothing_in_clear(server)


@pytest.mark.parametrize("script", [{}, {"STARTTLS": Say(b"454 4.7.0 not now\r\n")}])
async def test_opportunistic_tls_goes_on_in_clear_without_credentials_and_stops_with_them(script: Script) -> None:
    offered = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if script else None
    without = SmtpServer(script=script, tls=offered)
    assert (await send_to(without, "opportunistic")).verdict is Verdict.DELIVERED
    with_credentials = SmtpServer(script=script, tls=offered, users=USERS)
    outcome = await send_to(with_credentials, "opportunistic", user=LOGIN)
    assert (outcome.verdict, outcome.stage, outcome.reason) == (Verdict.HELD, "auth", "tls_not_offered")
    assert_nothing_in_clear(with_credentials)


def broken_context() -> ssl.SSLContext:
    """A server's context that has no certificate: no handshake with it succeeds."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


async def test_a_handshake_that_fails_is_followed_by_a_connection_in_clear_when_opportunistic() -> None:
    server = SmtpServer(tls=broken_context())
    outcome = await send_to(server, "opportunistic")
    assert outcome.verdict is Verdict.DELIVERED
    assert server.connections == 2
    assert not server.receipts[0].is_encrypted


@pytest.mark.parametrize(("tls", "user"), [("required", ""), ("required", LOGIN), ("opportunistic", LOGIN)])
async def test_a_handshake_that_fails_ends_the_attempt_otherwise(tls: str, user: str) -> None:
    server = SmtpServer(tls=broken_context(), users=USERS)
    outcome = await send_to(server, tls, user=user)
    assert (outcome.verdict, outcome.stage, outcome.reason) == (Verdict.HELD, "starttls", "tls_failed")
    assert server.connections == 1
    assert_nothing_in_clear(server)


@pytest.mark.parametrize("tls", ["required", "opportunistic"])
@pytest.mark.parametrize("injected", [b"250-AUTH PLAIN\r\n", b"250 injected\r\n", b"2", b"\x16\x03\x01"])
async def test_octets_in_clear_behind_the_answer_to_starttls_abort_the_session(
    authority: Authority, tls: str, injected: bytes
) -> None:
    server = SmtpServer(script={"STARTTLS": Say(b"220 go ahead\r\n" + injected)}, tls=authority.server(), users=USERS)
    outcome = await send_to(server, tls, user=LOGIN, trust=authority.trust())
    assert (outcome.verdict, outcome.stage, outcome.reason) == (Verdict.HELD, "starttls", "protocol_error")
    assert server.connections == 1
    assert_nothing_in_clear(server)


@pytest.mark.parametrize("refusal", [b"502 5.5.1 Command not implemented\r\n", b"500 what?\r\n"])
async def test_a_server_without_ehlo_is_greeted_with_helo_and_asked_for_no_extension(refusal: bytes) -> None:
    server = SmtpServer(script={"EHLO": Say(refusal)})
    assert (await send_to(server, "opportunistic")).verdict is Verdict.DELIVERED
    assert server.verbs() == ["EHLO", "HELO", "MAIL", "RCPT", "DATA", "QUIT"]
    assert server.heard[2].line == b"MAIL FROM:<billing@acme.example>"


@pytest.mark.parametrize(
    ("tls", "user", "stage", "reason"),
    [
        ("required", "", "starttls", "tls_not_offered"),
        ("opportunistic", LOGIN, "auth", "tls_not_offered"),
        ("none", LOGIN, "auth", "auth_not_offered"),
    ],
)
async def test_a_server_without_ehlo_gets_nothing_that_must_be_encrypted_or_logged_in(
    tls: str, user: str, stage: str, reason: str
) -> None:
    server = SmtpServer(script={"EHLO": Say(b"502 5.5.1 Command not implemented\r\n")}, users=USERS)
    outcome = await send_to(server, tls, user=user)
    assert (outcome.verdict, outcome.stage, outcome.reason) == (Verdict.HELD, stage, reason)
    assert_nothing_in_clear(server)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ({"EHLO": Say(b"502 what?\r\n"), "HELO": Say(b"550 bad HELO\r\n")}, "helo_refused"),
        ({"EHLO": Say(b"502 what?\r\n"), "HELO": Say(b"502 what?\r\n")}, "command_refused"),
        ({"EHLO": Say(b"504 5.5.2 <x>: Helo command rejected\r\n")}, "helo_refused"),
    ],
)
async def test_a_server_that_takes_neither_greeting_holds_the_mail(script: Script, reason: str) -> None:
    server = SmtpServer(script=script)
    outcome = await send_to(server, "none")
    assert (outcome.verdict, outcome.stage, outcome.reason) == (Verdict.HELD, "ehlo", reason)
    assert server.verbs()[-1] in ("EHLO", "HELO")


@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "PLAIN", "LOGIN", "CRAM-MD5 LOGIN"])
async def test_login_works_with_what_the_server_offers(authority: Authority, mechanisms: str) -> None:
    server = SmtpServer(tls=authority.server(), users=USERS, mechanisms=mechanisms)
    outcome = await send_to(server, "required", user=LOGIN, trust=authority.trust())
    assert outcome.verdict is Verdict.DELIVERED
    assert server.receipts[0].user == "user"


async def test_login_in_clear_happens_only_where_it_was_chosen() -> None:
    server = SmtpServer(users=USERS)
    assert (await send_to(server, "none", user=LOGIN)).verdict is Verdict.DELIVERED


async def test_plain_answers_a_server_that_takes_no_initial_response() -> None:
    server = SmtpServer(script={"AUTH": [Say(b"334 \r\n")]}, users=USERS)
    outcome = await send_to(server, "none", user=LOGIN)
    response = b64encode(b"\0user\0" + PASSWORD.encode())
    assert outcome.stage == "auth"  # this server knows no bare response
    assert server.heard[2].line == response


async def test_a_wrong_password_is_our_trouble_and_its_answer_is_not_kept(
    authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    server = SmtpServer(tls=authority.server(), users={"user": "other"})
    outcome = await send_to(server, "required", user=LOGIN, trust=authority.trust())
    assert (outcome.verdict, outcome.stage, outcome.reason) == (Verdict.HELD, "auth", "auth_failed")
    assert (outcome.code, outcome.enhanced) == (535, "5.7.8")
    assert "user" not in (outcome.reply or "")
    printed = "".join(capsys.readouterr())
    assert PASSWORD not in printed
    assert b64encode(f"\0user\0{PASSWORD}".encode()).decode() not in printed


TOKEN = "ya29." + "t0ken-" * 300


@pytest.mark.parametrize(("token", "verdict"), [(TOKEN, Verdict.DELIVERED), ("ya29.stale", Verdict.HELD)])
async def test_an_access_token_logs_in_by_xoauth2(
    authority: Authority, token: str, verdict: Verdict, capsys: pytest.CaptureFixture[str]
) -> None:
    server = SmtpServer(tls=authority.server(), users={"user": TOKEN}, mechanisms="PLAIN XOAUTH2")
    async with server:
        target = parse_smtp_url(f"smtp://user:{token}@127.0.0.1:{server.port}?auth=xoauth2")
        transport = SmtpTransport(lambda: target, trust=authority.trust())
        (outcome,) = await transport.send(outgoing(), Recorder())
        await transport.close()
    assert outcome.verdict is verdict
    if verdict is Verdict.HELD:
        assert (outcome.stage, outcome.reason, outcome.code, outcome.enhanced) == ("auth", "auth_failed", 535, "5.7.8")
        assert "user" not in (outcome.reply or "")
    assert token not in "".join(capsys.readouterr())


async def test_an_access_token_is_never_tried_as_a_password() -> None:
    server = SmtpServer(users={"user": "token"}, mechanisms="PLAIN LOGIN")
    async with server:
        target = parse_smtp_url(f"smtp://user:token@127.0.0.1:{server.port}?auth=xoauth2&tls=none")
        transport = SmtpTransport(lambda: target)
        (outcome,) = await transport.send(outgoing(), Recorder())
        await transport.close()
    assert (outcome.verdict, outcome.stage, outcome.reason) == (Verdict.HELD, "auth", "auth_not_offered")
    assert "AUTH" not in server.verbs()


async def send_with(server: SmtpServer, authority: Authority, options: str) -> Outcome:
    async with server:
        target = parse_smtp_url(f"smtp://127.0.0.1:{server.port}?{options}")
        transport = SmtpTransport(lambda: target, trust=authority.trust())
        (outcome,) = await transport.send(outgoing(), Recorder())
        await transport.close()
    return outcome


@pytest.mark.parametrize("has_key_apart", [False, True])
async def test_a_client_certificate_opens_a_server_that_asks_for_one(
    authority: Authority, tmp_path: Path, has_key_apart: bool
) -> None:
    private, certificate = authority.server_pem("client.example").split(b"-----BEGIN CERT")
    both, key = tmp_path / "client.pem", tmp_path / "client.key"
    both.write_bytes(b"-----BEGIN CERT" + certificate + (b"" if has_key_apart else private))
    key.write_bytes(private)
    options = f"cert={both}&key={key}" if has_key_apart else f"cert={both}"
    outcome = await send_with(SmtpServer(tls=authority.asking_server()), authority, options)
    assert outcome.verdict is Verdict.DELIVERED


async def test_without_one_that_server_takes_no_mail(authority: Authority) -> None:
    outcome = await send_with(SmtpServer(tls=authority.asking_server()), authority, "tls=required")
    assert outcome.verdict is Verdict.HELD


@pytest.mark.parametrize("kind", ["missing", "no certificate", "another's key", "locked key"])
async def test_a_client_certificate_that_cannot_be_used_holds_the_mail_and_says_so(
    authority: Authority, tmp_path: Path, kind: str
) -> None:
    file, key = tmp_path / "client.pem", tmp_path / "client.key"
    file.write_bytes(b"what?" if kind == "no certificate" else authority.server_pem("client.example"))
    locked = serialization.BestAvailableEncryption(b"secret")
    private = ec.generate_private_key(ec.SECP256R1())
    encryption = locked if kind == "locked key" else serialization.NoEncryption()
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    if kind == "missing":
        file.unlink()
    server = SmtpServer(tls=authority.asking_server())
    outcome = await send_with(server, authority, f"cert={file}&key={key}")
    assert (outcome.verdict, outcome.stage, outcome.reason) == (Verdict.HELD, "starttls", "client_certificate_unusable")
    assert outcome.scope is Scope.OURS
    assert_nothing_in_clear(server)


async def test_a_server_without_a_way_to_log_in_gets_no_mail() -> None:
    server = SmtpServer(users=USERS, mechanisms="GSSAPI")
    outcome = await send_to(server, "none", user=LOGIN)
    assert (outcome.verdict, outcome.stage, outcome.reason) == (Verdict.HELD, "auth", "auth_not_offered")


async def test_credentials_changed_meanwhile_serve_the_next_connection() -> None:
    server = SmtpServer(users={"user": "new"})
    async with server:
        urls = [f"smtp://user:{password}@127.0.0.1:{server.port}?tls=none" for password in ("old", "new")]
        transport = SmtpTransport(lambda: parse_smtp_url(urls[0]))
        (refused,) = await transport.send(outgoing(), Recorder())
        urls.pop(0)
        (taken,) = await transport.send(outgoing(), Recorder())
        await transport.close()
    assert (refused.reason, taken.verdict) == ("auth_failed", Verdict.DELIVERED)


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """A server that accepts connections and never says a word."""

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_a_handshake_that_hangs_times_out(authority: Authority) -> None:

    async with silent_server() as port:
        target = parse_smtp_url(f"smtps://127.0.0.1:{port}")
        transport = SmtpTransport(
            lambda: target, timeouts=Timeouts(tls=timedelta(milliseconds=100)), trust=authority.trust()
        )
        (outcome,) = await transport.send(outgoing(), Recorder())
        await transport.close()
    assert (outcome.verdict, outcome.stage, outcome.reason) == (Verdict.HELD, "starttls", "timeout")


@pytest.mark.parametrize(
    ("address", "name"),
    [("192.0.2.7", "[192.0.2.7]"), ("2001:db8::1", "[IPv6:2001:db8::1]"), ("fe80::1%eth0", "[IPv6:fe80::1]")],
)
def test_a_host_without_a_domain_name_greets_with_its_address(
    monkeypatch: pytest.MonkeyPatch, address: str, name: str
) -> None:
    for bare in ("localhost", "a\r\nRSET", "", "x y.example"):
        monkeypatch.setattr("socket.gethostname", lambda bare=bare: bare)
        assert local_name(address) == name


def test_a_host_with_a_domain_name_greets_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "mail.example")
    assert local_name("192.0.2.7") == "mail.example"


async def test_a_large_mail_arrives_whole_through_tls(authority: Authority) -> None:
    raw = b"Subject: x\r\n\r\n" + b"".join(b"%060d\r\n" % n for n in range(100_000))
    server = SmtpServer(tls=authority.server(), keywords=())
    async with server, transport_to(server, "required", trust=authority.trust()) as transport:
        (outcome,) = await transport.send(outgoing(raw=raw), Recorder())
    assert outcome.verdict is Verdict.DELIVERED
    assert server.receipts[0].data == raw
