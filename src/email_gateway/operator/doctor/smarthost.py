"""The smarthost: connect, encrypt, log in, read what it can, and say goodbye; nothing is sent."""

import asyncio
import ssl
import time
from datetime import timedelta

from email_gateway.delivery.opening import Terms, open_connection
from email_gateway.delivery.replies import Stage
from email_gateway.delivery.smtp import ConversationFailed, SmtpConnection
from email_gateway.delivery.target import SmtpTarget, Timeouts, Tls, parse_smtp_url
from email_gateway.operator.doctor.findings import Finding, broken, ok, skipped, warning
from email_gateway.operator.doctor.secret_values import Values
from email_gateway.operator.doctor.ses import check_ses, find_region
from email_gateway.operator.doctor.subject import Subject
from email_gateway.secrets import SecretName

USUAL_SIZE = 10_000_000  # most servers take 10 MB or more; an invoice with a scan needs some

MEANS = {
    Stage.CONNECT: "Mail waits until it answers: it is down, or port 25 or 587 is closed on the way.",
    Stage.EHLO: "It talks, and not the SMTP of today: most likely another service is on that port.",
    Stage.STARTTLS: "Nothing is sent without a verified connection. Name the server as its certificate does; a private"
    " authority goes in through SSL_CERT_FILE.",
    Stage.AUTH: "The user or the password in SMTP_URL, or in the secret smtp-url, is not what it takes. All mail waits.",
}


async def check_smarthost(
    subject: Subject, url: str | None, values: Values, trust: ssl.SSLContext | None
) -> list[Finding]:
    """Look at the smarthost, and at the account of SES where it is SES. `trust` replaces the system's authorities."""
    if url is None or subject.settings.transport != "smtp" or (region := find_region(parse_smtp_url(url).host)) is None:
        return [await _look(subject, url, values, trust)]
    return list(await asyncio.gather(_look(subject, url, values, trust), check_ses(subject, region)))


async def _look(subject: Subject, url: str | None, values: Values, trust: ssl.SSLContext | None) -> Finding:
    """Open a connection as the worker does, and close it."""
    if subject.settings.transport != "smtp":
        kept = "kept" if subject.settings.is_deployed else "kept and shown"
        return ok("smarthost", f"none: TRANSPORT is {subject.settings.transport}, mail is {kept}")
    if url is None and not values.is_complete:
        return skipped("smarthost", "its URL may be in a secret that cannot be read")
    if url is None:
        means = "TRANSPORT is smtp, and nothing says where to: set SMTP_URL, or make the secret smtp-url."
        secret = f"{subject.full_name(SecretName.SMTP_URL)} --secret-string file://smtp-url.txt"
        return broken("smarthost", "no URL is set", means, f"aws secretsmanager create-secret --name {secret}")
    target = parse_smtp_url(url)
    step = timedelta(seconds=subject.bound / 2)
    timeouts = Timeouts(connect=step, tls=step, greeting=step, ehlo=step, auth=step, quit=step / 2)
    try:
        connection = await open_connection(target, Terms(timeouts, trust), time.monotonic() + subject.bound * 3 / 4)
    except ConversationFailed as failed:
        return _judge_failure(target, failed)
    await connection.quit()
    return _judge(target, connection)


def _judge_failure(target: SmtpTarget, failed: ConversationFailed) -> Finding:
    place = f"{target.host}:{target.port}"
    # The text of a reply is another's, and may repeat the user's name.
    said = f", it said {failed.reply.code} {failed.reply.enhanced or ''}".rstrip() if failed.reply else ""
    reason = failed.reason.replace("_", " ")
    means = MEANS.get(failed.stage, MEANS[Stage.CONNECT])
    if failed.reason == "auth_not_offered":
        means = (
            "It offers no login we know (PLAIN, LOGIN; XOAUTH2 for a token), or only on another port. All mail waits."
        )
    return broken("smarthost", f"{place} at {failed.stage.upper()}: {reason}{said}", means, _step(target, failed.stage))


def _step(target: SmtpTarget, stage: Stage) -> str:
    if stage is Stage.CONNECT and target.tls is not Tls.IMPLICIT:
        return f"nc -vz -w 5 {target.host} {target.port}"
    starttls = "" if target.tls is Tls.IMPLICIT else " -starttls smtp"
    return f"openssl s_client{starttls} -connect {target.host}:{target.port} -servername {target.host} -crlf"


def _judge(target: SmtpTarget, connection: SmtpConnection) -> Finding:
    encrypted = "encrypted" if connection.is_encrypted else "in clear"
    login = ", logged in" if target.credentials else ""
    limit = connection.size_limit
    size = f", up to {limit / 1_000_000:.0f} MB" if limit else ""
    seen = f"{target.host}:{target.port}: {encrypted}{login}{size}"
    if target.credentials and not connection.is_encrypted:
        means = "The password and all mail cross the network in clear: set tls=required."
        return warning("smarthost", seen, means, _step(target, Stage.STARTTLS))
    if limit is not None and limit < USUAL_SIZE:
        means = "It refuses larger mails, and the gateway accepts up to 40 MB: senders see bounces."
        return warning("smarthost", seen, means, f"nc -C {target.host} {target.port}")
    return ok("smarthost", seen)
