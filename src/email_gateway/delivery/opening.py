"""How a connection to a smarthost begins: connect, greeting, EHLO, encryption, login."""

import functools
import re
import socket
import ssl
import time
from base64 import b64encode
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from email_gateway.delivery.replies import Stage
from email_gateway.delivery.reply_parser import Reply
from email_gateway.delivery.smtp import ConversationFailed, SmtpConnection
from email_gateway.delivery.target import ClientCertificate, Credentials, SmtpTarget, Timeouts, Tls
from email_gateway.delivery.wire import Wire, WireBroken
from email_gateway.observe import get_logger

log = get_logger(__name__)

# At least two labels: a bare machine name says nothing to the other side.
_DOMAIN_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9][A-Za-z0-9-]{0,62}(?:\.[A-Za-z0-9][A-Za-z0-9-]{0,62})+")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a connection is opened with. `trust` replaces the system's certificate authorities."""

    timeouts: Timeouts
    trust: ssl.SSLContext | None = None


async def open_connection(target: SmtpTarget, terms: Terms, until: float) -> SmtpConnection:
    """Return a connection that is ready for MAIL; raises ConversationFailed.

    With opportunistic TLS a handshake that fails is followed by a second connection in clear,
    unless the target has credentials: those never cross a connection that was meant to be encrypted.
    """
    try:
        return await _open(target, target.tls, terms, until)
    except ConversationFailed as failed:
        is_handshake = failed.stage is Stage.STARTTLS and failed.reason == "tls_failed"
        if not is_handshake or target.tls is not Tls.OPPORTUNISTIC or target.credentials:
            raise
    log.warning("smtp_in_clear", reason="tls_failed")
    return await _open(target, Tls.NONE, terms, until)


async def _open(target: SmtpTarget, tls: Tls, terms: Terms, until: float) -> SmtpConnection:
    try:
        seconds = min(terms.timeouts.connect.total_seconds(), until - time.monotonic())
        wire = await Wire.open(target.host, target.port, seconds)
    except WireBroken as broken:
        raise ConversationFailed(Stage.CONNECT, broken.reason) from None
    connection = SmtpConnection(wire, terms.timeouts, until)
    try:
        if tls is Tls.IMPLICIT:
            await connection.start_tls(_context(target, tls, terms), target.host)
        await connection.read_greeting()
        name = local_name(connection.local_address)
        await connection.ehlo(name)
        if tls in (Tls.REQUIRED, Tls.OPPORTUNISTIC):
            await _upgrade(connection, target, tls, terms)
        if connection.is_encrypted and tls is not Tls.IMPLICIT:
            await connection.ehlo(name)
        if target.credentials:
            if not connection.is_encrypted and target.tls is not Tls.NONE:
                raise ConversationFailed(Stage.AUTH, "tls_not_offered")
            await _log_in(connection, target.credentials, terms.timeouts)
    except BaseException:
        connection.abort()
        raise
    return connection


async def _upgrade(connection: SmtpConnection, target: SmtpTarget, tls: Tls, terms: Terms) -> None:
    """Say STARTTLS (RFC 3207); go on in clear only where that was allowed."""
    if "STARTTLS" not in connection.capabilities:
        if tls is Tls.REQUIRED:
            raise ConversationFailed(Stage.STARTTLS, "tls_not_offered")
        return
    reply = await connection.ask(Stage.STARTTLS, b"STARTTLS", terms.timeouts.tls)
    if reply.code >= 400 and tls is Tls.OPPORTUNISTIC:
        log.warning("smtp_in_clear", reason="tls_refused", smtp_code=reply.code)
        return
    connection.require_positive(Stage.STARTTLS, reply)
    await connection.start_tls(_context(target, tls, terms), target.host)


async def _log_in(connection: SmtpConnection, credentials: Credentials, timeouts: Timeouts) -> None:
    """Authenticate with PLAIN (RFC 4616) or, where the server knows nothing better, LOGIN; with a token by XOAUTH2."""
    try:
        for command in _login_steps(connection.capabilities.get("AUTH", "").split(), credentials):
            reply = await connection.ask(Stage.AUTH, command, timeouts.auth)
            if reply.code != 334:  # 334 asks for the next step (RFC 4954 section 4)
                break
        connection.require_positive(Stage.AUTH, reply)
    except ConversationFailed as failed:
        # Servers repeat the user's name here, which is nothing for the history of a mail.
        said = failed.reply and Reply(failed.reply.code, ((failed.reply.enhanced or "").encode("ascii"),))
        raise ConversationFailed(failed.stage, failed.reason, said) from None


def _login_steps(offered: list[str], credentials: Credentials) -> list[bytes]:
    """Return the lines of a login; each after the first answers a 334, where the server still asks."""
    user, password = credentials.user.encode(), credentials.password.encode()
    if credentials.is_token:
        # A token is never tried as a password. A refusal comes as a 334 with its reason, and waits for an
        # empty line (developers.google.com/workspace/gmail/imap/xoauth2-protocol).
        if "XOAUTH2" in offered:
            return [b"AUTH XOAUTH2 " + b64encode(b"user=" + user + b"\x01auth=Bearer " + password + b"\x01\x01"), b""]
    elif "PLAIN" in offered:
        response = b64encode(b"\0" + user + b"\0" + password)
        return [b"AUTH PLAIN " + response, response]  # again where the server wants it on its own line
    elif "LOGIN" in offered:
        return [b"AUTH LOGIN", b64encode(user), b64encode(password)]
    raise ConversationFailed(Stage.AUTH, "auth_not_offered")


def _context(target: SmtpTarget, tls: Tls, terms: Terms) -> ssl.SSLContext:
    if not tls.is_verified:
        return _unverified_context()
    context = terms.trust or _verified_context(target.certificate)
    if ours := target.certificate:
        try:
            context.load_cert_chain(
                ours.certificate, ours.key, password=_no_passphrase
            )  # anew: it may have been renewed
        except (OSError, ValueError):
            raise ConversationFailed(Stage.STARTTLS, "client_certificate_unusable") from None
    return context


def _no_passphrase() -> str:
    """Stand for a passphrase that nobody has given: without this OpenSSL asks the terminal and waits."""
    raise ValueError("the key is locked")


@functools.cache  # reading the system's authorities takes 20 ms
def _verified_context(_ours: ClientCertificate | None) -> ssl.SSLContext:
    """Trust the system's certificate authorities, or those that SSL_CERT_FILE names; TLS 1.2 or newer.

    One for each certificate of ours: a context shows what was loaded into it to every server.
    """
    return ssl.create_default_context()


@functools.cache
def _unverified_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # RFC 7435: encryption to somebody is better than none
    return context


def local_name(address: str | None) -> str:
    """Return what EHLO says of us: the host's name if it is a domain name, else its address in brackets.

    No DNS is asked: what it answers is another's text, and the smarthost believes it no more.
    """
    name = socket.gethostname()
    if _DOMAIN_NAME.fullmatch(name):
        return name
    try:
        own = ip_address((address or "").partition("%")[0])
    except ValueError:
        return "[127.0.0.1]"
    return f"[IPv6:{own}]" if isinstance(own, IPv6Address) else f"[{own}]"  # RFC 5321 section 4.1.3
