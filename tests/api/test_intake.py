"""What a message may be: each limit of the documentation, from both sides, over HTTP."""

from typing import Any

import httpx
import pytest

from tests.api.house import email

pytestmark = pytest.mark.anyio

MARK = "Zq9Marked"

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("no sender", email(**{"from": None}), "/from"),
    ("no recipient", email(to=None), "/to"),
    ("no subject", email(subject=None), "/subject"),
    ("neither body", email(text=None), ""),
    ("two senders", email(**{"from": ["a@acme.example", "b@acme.example"]}), "/from"),
    ("an empty list of recipients", email(to=[]), "/to"),
    ("a sender without a domain", email(**{"from": MARK}), "/from"),
    ("a bad address in a list", email(cc=["a@example.net", MARK]), "/cc/1"),
    ("a bad reply-to", email(reply_to=f"{MARK}@"), "/reply_to"),
    ("a line break in an address", email(to=f"a@example.net\r\nBcc: {MARK}@example.net"), "/to"),
    ("51 recipients", email(to=[f"a{n}@example.net" for n in range(51)]), "/to"),
    ("51 recipients in three fields", email(to=[f"a{n}@b.example" for n in range(49)], cc="x@b.example", bcc="y@b.example"), "/to"),
    ("a subject of 999 characters", email(subject="x" * 999), "/subject"),
    ("a line break in the subject", email(subject=f"{MARK}\nBcc: x@example.net"), "/subject"),
    ("a header of ours", email(headers={"Bcc": MARK}), "/headers"),
    ("a header with a line break", email(headers={"X-Note": f"{MARK}\r\nBcc: x@example.net"}), "/headers"),
    ("a header name with a space", email(headers={f"X {MARK}": "x"}), "/headers"),
    ("a header in two cases", email(headers={"X-A": "1", "x-a": "2"}), "/headers"),
    ("101 headers", email(headers={f"X-{n}": "x" for n in range(101)}), "/headers"),
    ("76 tags", email(tags=[{"name": f"n{n}", "value": "v"} for n in range(76)]), "/tags"),
    ("a tag with a space", email(tags=[{"name": "a b", "value": "v"}]), "/tags/0/name"),
    ("a tag that is not ASCII", email(tags=[{"name": "a", "value": "é"}]), "/tags/0/value"),
    ("an empty tag", email(tags=[{"name": "a", "value": ""}]), "/tags/0/value"),
    ("a tag of 257 characters", email(tags=[{"name": "a" * 257, "value": "v"}]), "/tags/0/name"),
    ("one tag name twice", email(tags=[{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]), "/tags"),
    ("a CPF with wrong digits", email(recipient={"tax_id": "529.982.247-26"}), "/recipient/tax_id"),
    ("a CPF of one digit", email(recipient={"tax_id": "111.111.111-11"}), "/recipient/tax_id"),
    ("a CPF in other digits", email(recipient={"tax_id": "٥٢٩٩٨٢٢٤٧٢٥"}), "/recipient/tax_id"),
    ("an empty external id", email(recipient={"external_id": ""}), "/recipient/external_id"),
    ("an external id of 257 characters", email(recipient={"external_id": "x" * 257}), "/recipient/external_id"),
    ("a control character in a name", email(recipient={"name": f"{MARK}\x07"}), "/recipient/name"),
    ("base64 without padding", email(attachments=[{"filename": "a", "content": "YQ"}]), "/attachments/0/content"),
    ("base64 with spaces", email(attachments=[{"filename": "a", "content": "YW Jj"}]), "/attachments/0/content"),
    ("a byte of 256", email(attachments=[{"filename": "a", "content": [256]}]), "/attachments/0/content"),
    ("a negative byte", email(attachments=[{"filename": "a", "content": [-1]}]), "/attachments/0/content"),
    ("a Buffer that is none", email(attachments=[{"filename": "a", "content": {"type": "File", "data": []}}]), "/attachments/0/content/type"),
    ("an attachment to be fetched", email(attachments=[{"filename": "a", "content": "", "path": f"https://{MARK}/"}]), "/attachments/0/path"),
    ("an attachment without content", email(attachments=[{"filename": "a"}]), "/attachments/0/content"),
    ("an attached multipart", email(attachments=[{"filename": "a", "content": "", "content_type": "multipart/mixed"}]), "/attachments/0/content_type"),
    ("a content id with a space", email(attachments=[{"filename": "a", "content": "", "content_id": "a b"}]), "/attachments/0/content_id"),
    ("101 attachments", email(attachments=[{"filename": "a", "content": ""}] * 101), "/attachments"),
    ("an unknown policy", email(on_doubt=MARK), "/on_doubt"),
    ("a life of 59 seconds", email(expires_after=59), "/expires_after"),
    ("a life of 15 days", email(expires_after=15 * 86400), "/expires_after"),
    ("a life in text", email(expires_after=MARK), "/expires_after"),
    ("a schedule", email(scheduled_at=f"tomorrow {MARK}"), "/scheduled_at"),
    ("a template beside a text", email(template={"id": MARK}), "/text"),
    ("a template of nobody", email(template={"id": MARK}, text=None), "/template/id"),
    ("a template without an id", email(template={}, text=None), "/template/id"),
    ("a list for a variable", email(template={"id": "x", "variables": {"A": [MARK]}}, text=None), "/template/variables"),
    ("an unknown field", email(priority=MARK), "/priority"),
    ("a field of ours", email(tenant_id=MARK), "/tenant_id"),
    ("a state of ours", email(state="delivered"), "/state"),
    ("an unknown field inside", email(recipient={"cpf": MARK}), "/recipient/cpf"),
    ("a number for a subject", email(subject=123456789), "/subject"),
    ("a number in a list", email(to=["a@example.net", 7]), "/to/1"),
    ("a list for headers", email(headers=[MARK]), "/headers"),
]  # fmt: skip


MISSING = {
    "no sender",
    "no recipient",
    "no subject",
    "neither body",
    "an empty list of recipients",
    "an attachment without content",
    "a template without an id",
}


@pytest.mark.parametrize(
    ("body", "pointer", "is_missing"),
    [(body, pointer, name in MISSING) for name, body, pointer in REFUSED],
    ids=[case[0] for case in REFUSED],
)
async def test_a_mistake_is_named_by_its_place_and_never_by_its_value(
    client: httpx.AsyncClient, body: dict[str, Any], pointer: str, is_missing: bool
) -> None:
    answer = await client.post("/v1/emails", json=body)
    problem = answer.json()
    name = "missing_required_field" if is_missing else "validation_error"
    assert (answer.status_code, problem["name"], problem["statusCode"]) == (422, name, 422)
    assert pointer in [error["pointer"] for error in problem["errors"]]
    assert all(error["detail"] for error in problem["errors"])
    for value in (MARK, "123456789", "529.982", "52998", "111.111"):
        assert value not in answer.text


ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    ("50 recipients", email(to=[f"a{n}@example.net" for n in range(50)])),
    ("a subject of 998 characters", email(subject="á" * 998)),
    ("an empty subject", email(subject="")),
    ("an empty text", email(text="")),
    ("75 tags of 256 characters", email(tags=[{"name": f"{n:0256}", "value": "v" * 256} for n in range(75)])),
    ("a CNPJ with letters", email(recipient={"tax_id": "12.ABC.345/01DE-35", "name": "Zé", "external_id": "a/1"})),
    ("nulls for what is left out", email(cc=None) | {"cc": None, "html": None, "tags": None, "recipient": None}),
    ("headers of one's own", email(headers={"X-Entity-Ref-ID": "1", "List-Unsubscribe": "<https://a.example/>"})),
    ("Resend's other name of a content id", email(attachments=[{"filename": "a", "content": "", "inline_content_id": "x"}])),
    ("NUL's spelling behind a backslash", email(text="\\u0000")),
]  # fmt: skip


@pytest.mark.parametrize("body", [case[1] for case in ACCEPTED], ids=[case[0] for case in ACCEPTED])
async def test_what_the_documentation_allows_is_accepted(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    answer = await client.post("/v1/emails", json=body)
    assert answer.status_code == 202, answer.text


async def test_every_mistake_is_listed_at_once(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/emails", json=email(**{"from": "x", "to": ["y"], "subject": "\n", "text": None}))
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/from", "/to/0", "/subject", ""]
    assert answer.json()["message"].endswith("(and 3 more)")


async def test_40_megabytes_after_base64_are_the_limit(client: httpx.AsyncClient) -> None:
    size = 40 * 1024 * 1024 // 4 * 4
    attachment = {"filename": "a.bin", "content": "A" * size}
    over = await client.post("/v1/emails", json=email(attachments=[attachment]))  # and the text on top
    assert over.status_code == 422
    assert over.json()["errors"][0]["pointer"] == "/attachments"
    attachment["content"] = "A" * (size - 16)
    assert (await client.post("/v1/emails", json=email(attachments=[attachment]))).status_code == 202
