import uuid
from typing import Any

import httpx
import pytest
from uuid_utils.compat import uuid7

from email_gateway.api.messages import last_event
from email_gateway.mail.addresses import show_address
from email_gateway.mail.content import Address
from email_gateway.mail.deliveries import State
from tests.api.house import Served, email

pytestmark = pytest.mark.anyio


async def send(client: httpx.AsyncClient, **changes: Any) -> str:
    answer = await client.post("/v1/emails", json=email(**changes))
    assert answer.status_code == 202, answer.text
    message_id: str = answer.json()["id"]
    return message_id


async def test_a_message_reads_back_as_it_was_sent_with_its_tax_id_masked(acme: httpx.AsyncClient) -> None:
    sent = await send(
        acme,
        cc=["c@example.net"],
        reply_to="r@acme.example",
        html="<b>hi",
        tags=[{"name": "kind", "value": "invoice"}],
        recipient={"tax_id": "529.982.247-25", "name": "Maria", "external_id": "42"},
        attachments=[{"filename": "a.txt", "content": "YWJj"}],
    )
    read = (await acme.get(f"/v1/emails/{sent}")).json()
    expected = {
        "object": "email",
        "id": sent,
        "message_id": f"<{sent}@acme.example>",
        "from": "Acme <billing@acme.example>",
        "to": ["maria@example.net"],
        "cc": ["c@example.net"],
        "bcc": [],
        "reply_to": ["r@acme.example"],
        "subject": "Your invoice",
        "html": "<b>hi",
        "text": "Attached.",
        "last_event": "queued",
        "tags": [{"name": "kind", "value": "invoice"}],
        "person": {"tax_id": "***.***.247-**", "name": "Maria", "external_id": "42"},
        "attachment_count": 1,
    }
    assert {name: read[name] for name in expected} == expected
    assert [delivery["recipient"] for delivery in read["deliveries"]] == ["maria@example.net", "c@example.net"]
    assert read["deliveries"][0]["state"] == "queued"


async def test_lists_are_paged_newest_first_and_leave_bodies_out(acme: httpx.AsyncClient) -> None:
    sent = [await send(acme, subject=str(n)) for n in range(5)][::-1]
    first = (await acme.get("/v1/emails", params={"limit": 2})).json()
    assert ([one["id"] for one in first["data"]], first["has_more"], first["object"]) == (sent[:2], True, "list")
    assert "text" not in first["data"][0]
    rest = (await acme.get("/v1/emails", params={"after": sent[1]})).json()
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (sent[2:], False)
    newer = (await acme.get("/v1/emails", params={"before": sent[3], "limit": 2})).json()
    assert ([one["id"] for one in newer["data"]], newer["has_more"]) == (sent[1:3], True)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "limit=%C2%B2", "after=x", "after=", "%ff=1", "limit=9999999999999"]
)
async def test_a_page_that_makes_no_sense_is_refused(client: httpx.AsyncClient, query: str) -> None:
    assert (await client.get(f"/v1/emails?{query}")).status_code == 422


async def test_after_and_before_together_are_refused(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/emails", params={"after": str(uuid7()), "before": str(uuid7())})
    assert answer.status_code == 422


async def test_the_history_names_the_recipient_and_opens_the_servers_reply(
    api: Served, acme: httpx.AsyncClient
) -> None:
    sent = uuid.UUID(await send(acme))
    event_id = uuid7()
    keys = await api.context.keyring.tenant(api.acme)
    await api.db.execute(
        "INSERT INTO event (tenant_id, message_id, event_id, recipient, kind, attempt, stage, reason, code, sealed_reply)"
        " VALUES ($1, $2, $3, 0, 'bounced', 1, 'rcpt', 'refused', 550, $4)",
        api.acme,
        sent,
        event_id,
        keys.seal("event.reply", event_id, b"550 no maria@example.net here"),
    )
    events = (await acme.get(f"/v1/emails/{sent}/events")).json()["data"]
    assert [event["type"] for event in events] == ["accepted", "bounced"]
    assert (events[1]["recipient"], events[1]["reply"]) == ("maria@example.net", "550 no maria@example.net here")


@pytest.mark.parametrize(
    ("wanted", "is_hit"),
    [
        ({"tax_id": "52998224725"}, True),
        ({"tax_id": "529.982.247-25"}, True),
        ({"tax_id": "12.ABC.345/01DE-35"}, False),
        ({"address": "MARIA@Example.NET"}, True),
        ({"address": "c@exämple.net"}, True),
        ({"address": "billing@acme.example"}, False),
        ({"external_id": "Jose\u0301"}, True),
        ({"external_id": "jos\u00e9"}, False),
    ],
)
async def test_a_person_is_found_by_tax_id_address_or_external_id(
    shared: Served, wanted: dict[str, str], is_hit: bool
) -> None:
    async with shared.client(shared.other_key) as other:
        sent = await send(other, cc="C@exämple.net", recipient={"tax_id": "529.982.247-25", "external_id": "Jos\u00e9"})
        found = await other.post("/v1/emails/search", json=wanted)
        assert found.status_code == 200
        assert (sent in [one["id"] for one in found.json()["data"]]) is is_hit
    async with shared.client() as acme:
        found = await acme.post("/v1/emails/search", json=wanted)
        assert sent not in [one["id"] for one in found.json()["data"]]


async def test_a_search_is_paged_and_leaves_an_audit_row_without_the_value(
    api: Served, acme: httpx.AsyncClient
) -> None:
    sent = [await send(acme) for _ in range(3)][::-1]
    first = (await acme.post("/v1/emails/search", json={"address": "maria@example.net", "limit": 2})).json()
    assert ([one["id"] for one in first["data"]], first["has_more"]) == (sent[:2], True)
    second = await acme.post("/v1/emails/search", json={"address": "maria@example.net", "after": sent[1]})
    assert [one["id"] for one in second.json()["data"]] == sent[2:]
    rows = await api.db.fetch("SELECT * FROM audit WHERE action = 'emails.searched' AND tenant_id = $1", api.acme)
    assert [(row["tenant_id"], row["subject"]) for row in rows] == [(api.acme, "address")] * 2
    assert all("maria" not in str(tuple(row)) for row in rows)


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"tax_id": "52998224725", "address": "a@example.net"},
        {"tax_id": "1"},
        {"address": "nowhere"},
        {"limit": 5},
        {"address": "a@example.net", "limit": 101},
        {"address": "a@example.net", "after": "x"},
        {"name": "Maria"},
    ],
)
async def test_a_search_for_no_one_thing_is_refused(client: httpx.AsyncClient, wanted: dict[str, Any]) -> None:
    assert (await client.post("/v1/emails/search", json=wanted)).status_code == 422


async def test_a_hit_whose_content_says_otherwise_is_left_out(api: Served, acme: httpx.AsyncClient) -> None:
    await send(acme)
    other = await send(acme, to="someone.else@example.net")
    await api.db.execute(
        "INSERT INTO blind_index SELECT tenant_id, field, index_key_id, value, $1 FROM blind_index"
        " WHERE tenant_id = $2 AND message_id <> $1",
        uuid.UUID(other),
        api.acme,
    )
    found = (await acme.post("/v1/emails/search", json={"address": "maria@example.net"})).json()["data"]
    assert other not in [one["id"] for one in found]
    assert len(found) == 1


async def test_another_tenants_messages_are_in_no_list(shared: Served) -> None:
    async with shared.client(shared.other_key) as other, shared.client() as acme:
        message_id = await send(other, to="only.other@example.net")
        listed = (await acme.get("/v1/emails", params={"limit": 100})).json()["data"]
        assert message_id not in [one["id"] for one in listed]
        cursor = await acme.get("/v1/emails", params={"after": message_id})
        assert all(one["to"] != ["only.other@example.net"] for one in cursor.json()["data"])


@pytest.mark.parametrize(
    ("states", "word"),
    [
        ([State.QUEUED], "queued"),
        ([State.SENDING, State.DEAD], "queued"),
        ([State.DELIVERED, State.DELIVERED], "delivered"),
        ([State.DELIVERED, State.BOUNCED], "bounced"),
        ([State.BOUNCED, State.DEAD], "failed"),
        ([State.EXPIRED, State.DELIVERED], "failed"),
        ([State.KEPT, State.DELIVERED], "failed"),
        ([State.KEPT, State.SENDING], "queued"),
        ([State.CANCELLED, State.DELIVERED], "canceled"),
        ([State.SUPPRESSED, State.CANCELLED], "suppressed"),
    ],
)
def test_one_word_stands_for_the_least_finished_then_the_worst(states: list[State], word: str) -> None:
    assert last_event(states) == word


def test_what_is_to_leave_later_has_a_word_of_its_own() -> None:
    assert last_event([State.QUEUED, State.SUPPRESSED], is_scheduled=True) == "scheduled"


def test_every_state_has_a_word() -> None:
    assert all(last_event([state]) for state in State)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (Address("a@example.net"), "a@example.net"),
        (Address("a@example.net", "Zé da Silva"), "Zé da Silva <a@example.net>"),
        (Address("a@example.net", 'Silva, "Zé"'), '"Silva, \\"Zé\\"" <a@example.net>'),
    ],
)
def test_an_address_is_shown_as_it_can_be_sent_again(address: Address, shown: str) -> None:
    assert show_address(address) == shown
