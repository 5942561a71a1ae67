"""Bodies that break parsers: each is a 4xx, in our words, with nothing of it repeated."""

import asyncio
import gzip
import json
from typing import Any

import httpx
import pytest

from email_gateway.api.decoding import check_json
from email_gateway.errors import InvalidRequest
from tests.api.house import Served, email

pytestmark = pytest.mark.anyio

MARK = "Zq9Marked"
GOOD = json.dumps(email(subject=MARK)).encode()
JSON = "application/json"


def with_subject(raw: bytes) -> bytes:
    """A good body but for what stands, unencoded, as its subject."""
    return json.dumps(email(subject="@")).encode().replace(b'"@"', raw)


NASTY: list[tuple[str, bytes]] = [
    ("nothing", b""),
    ("white space", b"  \n"),
    ("half of it", GOOD[:-1]),
    ("two of it", GOOD + GOOD),
    ("trailing words", GOOD + b" and more"),
    ("a comment", b"/* " + MARK.encode() + b" */" + GOOD),
    ("single quotes", GOOD.replace(b'"', b"'")),
    ("a byte order mark", b"\xef\xbb\xbf" + GOOD),
    ("UTF-16", GOOD.decode().encode("utf-16")),
    ("bytes that are no UTF-8", with_subject(b'"\xff\xfe"')),
    ("surrogates in UTF-8", with_subject(b'"\xed\xa0\x80"')),
    ("half a surrogate pair", with_subject(b'"\\ud83d"')),
    ("the other half", with_subject(b'"\\ude00"')),
    ("two halves that are no pair", with_subject(b'"\\ud83d\\ud83d"')),
    ("NUL, escaped", with_subject(b'"a\\u0000b"')),
    ("NUL behind an escaped backslash", with_subject(b'"a\\\\\\u0000b"')),
    ("NUL as it is", with_subject(b'"a\x00b"')),
    ("NUL in a name", GOOD[:-1] + b', "headers": {"X-\\u0000": "x"}}'),
    ("a raw line break", with_subject(b'"a\nb"')),
    ("NaN", with_subject(b"NaN")),
    ("Infinity", with_subject(b"-Infinity")),
    ("1e999", with_subject(b"1e999")),
    ("5,000 digits", with_subject(b"9" * 5000)),
    ("5,000 digits for a life", GOOD[:-1] + b', "expires_after": ' + b"9" * 5000 + b"}"),
    ("a fraction for a life", GOOD[:-1] + b', "expires_after": 600.5}'),
    ("100,000 lists", b"[" * 100_000),
    ("100,000 lists, closed", b"[" * 100_000 + b"]" * 100_000),
    ("40,000 objects", b'{"to":' * 40_000),
    ("100,000 lists in a field", GOOD[:-1] + b', "template": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ("100,000 lists as recipients", GOOD[:-1] + b', "cc": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ("a string", json.dumps(MARK).encode()),
    ("a number", b"7"),
    ("null", b"null"),
    ("an empty object", b"{}"),
    ("an empty list", b"[]"),
    ("a name that is no word", GOOD[:-1] + b', "<' + MARK.encode() + b'>": 1}'),
    ("an empty name", GOOD[:-1] + b', "": 1}'),
    ("__proto__", GOOD[:-1] + b', "__proto__": {"admin": true}}'),
]


@pytest.mark.parametrize("path", ["/v1/emails", "/v1/emails/batch", "/v1/emails/search"])
@pytest.mark.parametrize("body", [case[1] for case in NASTY], ids=[case[0] for case in NASTY])
async def test_a_nasty_body_is_422_on_every_route_that_reads_one(
    client: httpx.AsyncClient, path: str, body: bytes
) -> None:
    answer = await client.post(path, content=body, headers={"content-type": JSON})
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["errors"]
    assert MARK not in answer.text
    for word in ("msgspec", "byte 0", "codec", "recursion", "Traceback", "Expected `"):
        assert word not in answer.text


@pytest.mark.parametrize("body", [b"[" * 100_000, b"[" + b"[" * 100_000 + b"]" * 100_000 + b"]", b'[{"to":"\\u0000"}]'])
async def test_a_nasty_member_of_a_permissive_batch_is_422(client: httpx.AsyncClient, body: bytes) -> None:
    headers = {"content-type": JSON, "x-batch-validation": "permissive"}
    assert (await client.post("/v1/emails/batch", content=body, headers=headers)).status_code == 422


async def test_of_duplicate_names_the_last_counts(client: httpx.AsyncClient) -> None:
    body = GOOD[:-1] + b', "subject": "the last"}'
    sent = (await client.post("/v1/emails", content=body, headers={"content-type": JSON})).json()["id"]
    assert (await client.get(f"/v1/emails/{sent}")).json()["subject"] == "the last"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 202),
        ("Application/JSON; charset=UTF-8", 202),
        ('application/json; charset="utf-8"', 202),
        ("application/json; charset=utf-16", 415),
        ("application/x-www-form-urlencoded", 415),
        ("text/plain", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonp", 415),
    ],
)
async def test_only_json_is_read(client: httpx.AsyncClient, kind: str, status: int) -> None:
    assert (await client.post("/v1/emails", content=GOOD, headers={"content-type": kind})).status_code == status


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity, gzip"])
async def test_compressed_bodies_are_refused_unread(client: httpx.AsyncClient, encoding: str) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    answer = await client.post("/v1/emails", content=bomb, headers={"content-type": JSON, "content-encoding": encoding})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


async def test_a_body_over_56_mebibytes_is_413_whether_or_not_it_says_so(client: httpx.AsyncClient) -> None:
    piece = b"x" * 1024 * 1024
    said = await client.post("/v1/emails", content=piece * 57, headers={"content-type": JSON})
    assert said.status_code == 413

    async def pieces() -> Any:
        for _ in range(57):
            yield piece

    unsaid = await client.post("/v1/emails", content=pieces(), headers={"content-type": JSON})
    assert (unsaid.status_code, unsaid.json()["name"]) == (413, "content_too_large")


async def test_a_body_in_pieces_is_one_body(client: httpx.AsyncClient) -> None:
    async def pieces() -> Any:
        for byte in GOOD:
            yield bytes([byte])
            await asyncio.sleep(0)

    answer = await client.post("/v1/emails", content=pieces(), headers={"content-type": JSON})
    assert answer.status_code == 202


async def test_a_client_that_leaves_in_mid_body_stores_nothing(api: Served) -> None:
    reader, writer = await asyncio.open_connection(*api.address)
    head = f"POST /v1/emails HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {api.acme_key}\r\ncontent-length: {len(GOOD)}\r\n\r\n"
    writer.write(head.encode() + GOOD[:-1])
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async with api.client() as client:
        assert (await client.get("/v1/emails")).json()["data"] == []
    del reader


@pytest.mark.parametrize(
    "bomb",
    [
        b'{"headers":{' + b",".join(b'"h%d":""' % number for number in range(300_000)) + b"}}",
        b'{"attachments":[{"filename":"a","content":[' + b"7," * 2_500_000 + b"7]}]}",
        b'{"to":[' + b"{}," * 200_000 + b"{}]}",
        b"[" + b"[]," * 200_000 + b"[]]",
    ],
    ids=["headers", "numbers", "objects", "lists"],
)
def test_more_values_than_any_message_has_are_refused_before_they_are_made(bomb: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_json({}, bomb)
    assert "fewer values" in refused.value.faults[0].detail


@pytest.mark.parametrize("text", ['{[,"' * 300_000, "\\" * 50_001, '\\"' * 60_000])
def test_what_stands_within_a_string_is_no_value(text: str) -> None:
    check_json({}, json.dumps({"html": text, "subject": "x"}).encode())
