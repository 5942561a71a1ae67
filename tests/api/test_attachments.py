"""The files of messages: listed without opening them, and fetched by links that anybody may use for an hour."""

import asyncio
import base64
import os
import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import resend
from resend.exceptions import ResendError

from email_gateway.api.attachments import LINK_LASTS, MAX_LINK_CHARACTERS, Links
from email_gateway.limits import Limits
from email_gateway.store.accounts import create_api_key
from email_gateway.store.database import Database
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.roots import derive_root
from tests.api.house import Served, email, serving
from tests.conftest import KEY, SALT
from tests.given_roots import only

pytestmark = pytest.mark.anyio

PDF = b"%PDF-1.7\n\x00\xff"
FILES = [
    {"filename": "Nota ação.pdf", "content": base64.b64encode(PDF).decode()},
    {"filename": "logo.png", "content": base64.b64encode(b"png").decode(), "content_id": "logo"},
    {"filename": "page.html", "content": base64.b64encode(b"<script>1</script>").decode()},
]


async def send(client: httpx.AsyncClient, files: list[dict[str, Any]] | None = None) -> str:
    answer = await client.post("/v1/emails", json=email(attachments=FILES if files is None else files))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def list_files(client: httpx.AsyncClient, message_id: str, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get(f"/v1/emails/{message_id}/attachments", params=query)
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


async def fetch(url: str) -> httpx.Response:
    """Get what anybody gets who has the link."""
    async with httpx.AsyncClient(timeout=30) as anybody:
        return await anybody.get(url)


def token_of(url: str) -> bytes:
    text = url.rpartition("/")[2]
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.fixture
async def fresh(api: Served) -> AsyncIterator[Served]:
    """The same with limits of its own, since wrong links count against everybody at this address."""
    async with serving(replace(api.context, limits=Limits())) as url:
        yield replace(api, url=url)


async def test_a_messages_files_are_listed_in_their_order_with_links_that_open(acme: httpx.AsyncClient) -> None:
    sent = await send(acme)
    files = await list_files(acme, sent)
    assert [(one["filename"], one["size"], one["content_type"]) for one in files] == [
        ("Nota ação.pdf", len(PDF), "application/pdf"),
        ("logo.png", 3, "image/png"),
        ("page.html", 18, "text/html"),
    ]
    assert [(one["content_disposition"], one["content_id"]) for one in files] == [
        ("attachment", None),
        ("inline", "logo"),
        ("attachment", None),
    ]
    ahead = datetime.fromisoformat(files[0]["expires_at"]) - datetime.now(UTC)
    assert LINK_LASTS - timedelta(minutes=1) < ahead <= LINK_LASTS
    got = await fetch(files[0]["download_url"])
    assert (got.status_code, got.content, got.headers["content-type"]) == (200, PDF, "application/pdf")
    one = (await acme.get(f"/v1/emails/{sent}/attachments/{files[1]['id']}")).json()
    assert {name: one[name] for name in ("object", "id", "filename")} == {
        "object": "attachment",
        "id": files[1]["id"],
        "filename": "logo.png",
    }
    assert (await fetch(one["download_url"])).content == b"png"


async def test_a_file_cannot_run_where_the_dashboard_is(acme: httpx.AsyncClient) -> None:
    files = await list_files(acme, await send(acme))
    got = await fetch(files[2]["download_url"])
    assert got.headers["content-disposition"] == "attachment; filename*=UTF-8''page.html"
    assert got.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert (got.headers["x-content-type-options"], got.headers["cache-control"]) == ("nosniff", "no-store")
    first = await fetch(files[0]["download_url"])
    assert first.headers["content-disposition"] == "attachment; filename*=UTF-8''Nota%20a%C3%A7%C3%A3o.pdf"


async def test_the_list_is_paged(acme: httpx.AsyncClient) -> None:
    files = [{"filename": f"{n}.txt", "content": "YQ=="} for n in range(5)]
    sent = await send(acme, files)
    ids = [one["id"] for one in await list_files(acme, sent)]
    for query, expected, has_more in (
        ({"limit": 2}, ids[:2], True),
        ({"limit": 2, "after": ids[1]}, ids[2:4], True),
        ({"after": ids[3]}, ids[4:], False),
        ({"limit": 2, "before": ids[3]}, ids[1:3], True),
        ({"before": ids[1]}, ids[:1], False),
    ):
        page = (await acme.get(f"/v1/emails/{sent}/attachments", params=query)).json()
        assert ([one["id"] for one in page["data"]], page["has_more"], page["object"]) == (expected, has_more, "list")
    for wrong in ({"after": str(uuid.uuid4())}, {"after": ids[0], "before": ids[1]}, {"limit": 0}):
        assert (await acme.get(f"/v1/emails/{sent}/attachments", params=wrong)).status_code == 422


async def test_a_message_without_files_has_an_empty_list(acme: httpx.AsyncClient) -> None:
    assert await list_files(acme, await send(acme, [])) == []


async def test_listing_opens_no_file(api: Served, acme: httpx.AsyncClient) -> None:
    sent = await send(acme)
    await api.db.execute(
        "UPDATE attachment SET sealed_content = set_byte(sealed_content, 60, get_byte(sealed_content, 60) # 1)"
        " WHERE message_id = $1",
        uuid.UUID(sent),
    )
    (first, *_) = await list_files(acme, sent)
    assert first["filename"] == "Nota ação.pdf"
    assert (await fetch(first["download_url"])).status_code == 500


async def test_an_attachment_of_the_release_before_is_listed_too(api: Served, acme: httpx.AsyncClient) -> None:
    sent = await send(acme)
    await api.db.execute("UPDATE attachment SET sealed_summary = NULL WHERE message_id = $1", uuid.UUID(sent))
    files = await list_files(acme, sent)
    assert [(one["filename"], one["content_id"]) for one in files][1] == ("logo.png", "logo")


async def test_a_large_file_is_fetched_whole(acme: httpx.AsyncClient) -> None:
    data = os.urandom(3_000_000)
    sent = await send(acme, [{"filename": "a.bin", "content": base64.b64encode(data).decode()}])
    (file,) = await list_files(acme, sent)
    assert (file["size"], (await fetch(file["download_url"])).content) == (len(data), data)


async def test_a_download_is_audited_under_the_key_that_got_the_link(api: Served, acme: httpx.AsyncClient) -> None:
    (file, *_) = await list_files(acme, await send(acme))
    sql = "SELECT actor, subject FROM audit WHERE action = 'attachment.downloaded' AND tenant_id = $1"
    assert await api.db.fetch(sql, api.acme) == []
    await fetch(file["download_url"])
    (key,) = await api.db.fetch("SELECT api_key_id FROM api_key WHERE tenant_id = $1", api.acme)
    assert [tuple(row) for row in await api.db.fetch(sql, api.acme)] == [(f"api_key:{key['api_key_id']}", file["id"])]


async def test_a_link_ends_with_its_hour(api: Served, acme: httpx.AsyncClient) -> None:
    sent = await send(acme)
    (file, *_) = await list_files(acme, sent)
    (key,) = await api.db.fetch("SELECT api_key_id FROM api_key WHERE tenant_id = $1", api.acme)
    keys = await api.context.keyring.tenant(api.acme)
    links = Links(keys, key["api_key_id"], api.url, datetime.now(UTC) - timedelta(seconds=1))
    late = await fetch(links.make(uuid.UUID(sent), uuid.UUID(file["id"])))
    assert (late.status_code, late.json()["name"]) == (404, "not_found")


@pytest.mark.parametrize(
    "end",
    [
        "UPDATE api_key SET revoked_at = now() WHERE tenant_id = $1",
        "UPDATE api_key SET expires_at = now() WHERE tenant_id = $1",
        "UPDATE tenant SET suspended_at = now() WHERE tenant_id = $1",
    ],
)
async def test_a_link_ends_with_the_key_it_was_made_for(api: Served, acme: httpx.AsyncClient, end: str) -> None:
    (file, *_) = await list_files(acme, await send(acme))
    await api.db.execute(end, api.acme)
    assert (await fetch(file["download_url"])).status_code == 404


async def test_a_link_of_one_process_opens_in_another_under_newer_keys(
    db: Database, alone: Served, database_url: str
) -> None:
    async with alone.client() as client:
        (file, *_) = await list_files(client, await send(client))
    await alone.context.keyring.renew_field_key(alone.acme)
    elsewhere = await Keyring.start(db, only(derive_root(KEY, SALT)))
    async with serving(replace(alone.context, keyring=elsewhere)) as url:
        assert (await fetch(file["download_url"].replace(alone.url, url))).content == PDF


async def test_whatever_is_changed_in_a_link_opens_nothing(fresh: Served) -> None:
    async with fresh.client() as client, fresh.client(fresh.other_key) as other:
        (mine, *_) = await list_files(client, await send(client))
        (theirs, *_) = await list_files(other, await send(other))
    good, foreign = token_of(mine["download_url"]), token_of(theirs["download_url"])
    for bad in (
        good[:16] + foreign[16:32] + good[32:],  # another attachment
        foreign[:16] + good[16:],  # another tenant
        good[:-1] + bytes([good[-1] ^ 1]),
        good[:40],
        b"",
    ):
        text = base64.urlsafe_b64encode(bad).decode() or "x"
        assert (await fetch(f"{fresh.url}/v1/downloads/{text}")).status_code == 404
    for text in ("%00", "ç", "A" * (MAX_LINK_CHARACTERS + 1)):
        assert (await fetch(f"{fresh.url}/v1/downloads/{text}")).status_code == 404


async def test_whoever_guesses_links_has_to_wait(fresh: Served) -> None:
    answers = [await fetch(f"{fresh.url}/v1/downloads/{'A' * 174}") for _ in range(12)]
    assert [answer.status_code for answer in answers] == [404] * 10 + [429] * 2
    assert int(answers[-1].headers["retry-after"]) > 0


async def test_links_name_the_host_that_was_asked(api: Served, acme: httpx.AsyncClient) -> None:
    sent = await send(acme)
    (file, *_) = (await acme.get(f"/v1/emails/{sent}/attachments", headers={"Host": "mail.acme.example:8443"})).json()[
        "data"
    ]
    assert re.fullmatch(r"http://mail\.acme\.example:8443/v1/downloads/[\w-]{176}", file["download_url"])


@pytest.mark.usefixtures("sdk")
async def test_the_sdk_lists_and_gets_attachments() -> None:
    params: Any = {
        "from": "billing@acme.example",
        "to": "maria@example.net",
        "subject": "x",
        "text": "x",
        "attachments": FILES,
    }
    sent = await asyncio.to_thread(resend.Emails.send, params)
    listed = await asyncio.to_thread(resend.Emails.Attachments.list, sent["id"], {"limit": 2})
    assert ([one["filename"] for one in listed["data"]], listed["has_more"]) == (["Nota ação.pdf", "logo.png"], True)
    one = await asyncio.to_thread(resend.Emails.Attachments.get, sent["id"], listed["data"][0]["id"])
    assert (await fetch(one["download_url"])).content == PDF
    assert (await resend.Emails.Attachments.list_async(sent["id"]))["has_more"] is False
    assert (await resend.Emails.Attachments.get_async(sent["id"], one["id"]))["size"] == len(PDF)
    with pytest.raises(ResendError) as missing:
        await asyncio.to_thread(resend.Emails.Attachments.get, sent["id"], str(uuid.uuid4()))
    assert (missing.value.code, missing.value.error_type) == (404, "not_found")


async def test_a_sending_key_gets_no_links(api: Served, acme: httpx.AsyncClient) -> None:
    sent = await send(acme)
    key = await create_api_key(api.db, api.acme, "sender", actor="test", scopes=("sending_access",))
    async with api.client(key.secret) as sender:
        assert (await sender.get(f"/v1/emails/{sent}/attachments")).status_code == 403
