"""The development inbox: what the `inbox` transport took, in clear, newest first.

It exists only on a gateway that sends nothing to anyone. Even so each answer that carries mail in
clear leaves an audit row; a poll that brings nothing new carries none and leaves none.
"""

import asyncio
import hashlib
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from uuid import UUID

from starlette.responses import HTMLResponse, Response

from email_gateway.dashboard.headers import DOWNLOAD_POLICY, MAIL_POLICY
from email_gateway.dashboard.parsed_mail import ParsedMail, display_name, parse_headers, parse_mail, with_inline_images
from email_gateway.dashboard.rendering import render
from email_gateway.dashboard.visits import Visit, guarded
from email_gateway.errors import KeyUnavailable, NotFound, Tampered
from email_gateway.store.inbox import get_inbox_mail
from email_gateway.store.statistics import Arrival, list_arrivals

SHOWN_MAILS = 50
LARGEST_LISTED = 256 * 1024  # a larger mail is opened when it is asked for, not for its subject
LONGEST_SOURCE = 256 * 1024
OFF_LOOP = 64 * 1024


@guarded
async def show_list(visit: Visit) -> Response:
    """Show the newest mails."""
    arrivals = await _arrivals(visit)
    await visit.record("inbox.listed")
    return visit.page("inbox.html", rows=await _rows(visit, arrivals), etag=_etag(arrivals))


@guarded
async def live_list(visit: Visit) -> Response:
    """Answer a poll: nothing where no mail came, the rows in clear where one did."""
    arrivals = await _arrivals(visit)
    etag = _etag(arrivals)
    if visit.request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers={"etag": etag})
    await visit.record("inbox.listed")
    return HTMLResponse(render("_inbox.html", rows=await _rows(visit, arrivals)), headers={"etag": etag})


@guarded
async def show_one(visit: Visit) -> Response:
    """Show one mail: headers, text, files, and a frame for its HTML."""
    opened = await _open(visit, "inbox.opened")
    return visit.page(
        "mail.html", mail=opened.mail, size=len(opened.raw), message_id=opened.message_id, **_names(visit)
    )


@guarded
async def show_html(visit: Visit) -> Response:
    """Answer with the mail's HTML for the sandboxed frame: no script, no request, no origin."""
    mail = (await _open(visit, "inbox.html_opened")).mail
    html = with_inline_images(mail.html or "", mail.files)
    headers = {"content-security-policy": MAIL_POLICY, "x-frame-options": "SAMEORIGIN"}
    return HTMLResponse(html.encode("utf-8", errors="replace"), headers=headers)


@guarded
async def show_source(visit: Visit) -> Response:
    """Show the raw mail as text, its beginning where it is long."""
    opened = await _open(visit, "inbox.source_opened")
    raw = opened.raw
    source = raw[:LONGEST_SOURCE].decode("utf-8", errors="backslashreplace")
    return visit.page("source.html", source=source, is_cut=len(raw) > LONGEST_SOURCE, size=len(raw), **_names(visit))


@guarded
async def download_source(visit: Visit) -> Response:
    """Download the raw mail."""
    opened = await _open(visit, "inbox.downloaded")
    return _download(opened.raw, f"{visit.request.path_params['inbox_id']}.eml")


@guarded
async def download_file(visit: Visit) -> Response:
    """Download one attachment, as octets whatever it says it is."""
    mail = (await _open(visit, "inbox.attachment_downloaded")).mail
    position = visit.request.path_params["position"]
    if position >= len(mail.files):
        raise NotFound("no such attachment")
    file = mail.files[position]
    return _download(file.data, file.filename)


async def _arrivals(visit: Visit) -> list[Arrival]:
    if not visit.context.has_inbox:
        raise NotFound("this gateway keeps no inbox")
    return await list_arrivals(visit.context.db, limit=SHOWN_MAILS)


def _etag(arrivals: list[Arrival]) -> str:
    return f'"{hashlib.sha256(b"".join(a.inbox_id.bytes for a in arrivals)).hexdigest()[:32]}"'


async def _rows(visit: Visit, arrivals: list[Arrival]) -> list[dict[str, Any]]:
    heads = [await _head(visit, arrival) for arrival in arrivals]
    return [
        {"arrival": arrival, "head": head, "sender": display_name(head.header("From")) if head else ""}
        for arrival, head in zip(arrivals, heads, strict=True)
    ]


async def _head(visit: Visit, arrival: Arrival) -> ParsedMail | None:
    """Return the headers, or None for a mail that is large, gone, or does not open."""
    if arrival.size > LARGEST_LISTED:
        return None
    try:
        kept = await get_inbox_mail(visit.context.db, arrival.tenant_id, arrival.inbox_id)
        raw = await visit.context.keyring.open(arrival.tenant_id, "inbox.raw", arrival.inbox_id, kept.sealed_raw)
        return parse_headers(raw)
    except (NotFound, Tampered, KeyUnavailable):
        return None


@dataclass(frozen=True, slots=True)
class OpenMail:
    """One mail in clear."""

    message_id: UUID
    raw: bytes = field(repr=False)
    mail: ParsedMail = field(repr=False)


async def _open(visit: Visit, action: str) -> OpenMail:
    """Open and parse the mail that the address names, and record who looked before she sees it."""
    if not visit.context.has_inbox:
        raise NotFound("this gateway keeps no inbox")
    tenant_id, inbox_id = visit.request.path_params["tenant_id"], visit.request.path_params["inbox_id"]
    kept = await get_inbox_mail(visit.context.db, tenant_id, inbox_id)
    raw = await visit.context.keyring.open(tenant_id, "inbox.raw", inbox_id, kept.sealed_raw)
    mail = await asyncio.to_thread(parse_mail, raw) if len(raw) > OFF_LOOP else parse_mail(raw)
    await visit.record(action, tenant_id=tenant_id, subject=str(inbox_id))
    return OpenMail(kept.message_id, raw, mail)


def _names(visit: Visit) -> dict[str, Any]:
    return {name: visit.request.path_params[name] for name in ("tenant_id", "inbox_id")}


def _download(data: bytes, filename: str) -> Response:
    """Answer with a file that no browser shows in place (RFC 6266; the name in RFC 8187's form)."""
    name = _plain_name(filename)
    fallback = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    headers = {
        "content-disposition": f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{quote(name, safe='')}",
        "content-security-policy": DOWNLOAD_POLICY,
    }
    return Response(data, media_type="application/octet-stream", headers=headers)


def _plain_name(filename: str) -> str:
    """Return a name without path, control or direction characters, which make evil.exe look like a picture."""
    shown = "".join(c for c in filename if unicodedata.category(c)[0] != "C")
    return re.split(r"[/\\]", shown)[-1].strip(" .")[:120] or "attachment"
