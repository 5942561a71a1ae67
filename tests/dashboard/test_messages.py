import re
from uuid import UUID, uuid4

import pytest

from email_gateway.mail.content import Address
from email_gateway.mail.deliveries import State
from tests.dashboard.house import HOSTILE, OPERATOR, House, add_event, add_message, content, set_state

pytestmark = pytest.mark.anyio

TAX_ID = b"\x01\x0b52998224725\x00\x00\x00"
PERSONAL = ("maria@example.com", "Maria", "Your invoice", "customer-77", "52998224725", "billing@acme", "Friday")


def path_of(house: House, message_id: UUID) -> str:
    return f"/dashboard/messages/{house.tenant_id}/{message_id}"


async def csrf_of(client: object, path: str) -> str:
    page = (await client.get(path)).text  # type: ignore[attr-defined]
    return str(re.findall(r'name="csrf" value="(\w+)"', page)[0])


async def test_the_list_shows_masked_recipients_and_states(house: House) -> None:
    two = content(envelope=("maria@example.com", "joao@example.net"))
    message_id = await add_message(house, two)
    await set_state(house, message_id, State.DELIVERED)
    async with house.operator() as client:
        page = (await client.get("/dashboard/messages")).text
    assert "m•••@example.com" in page
    assert "+1" in page
    assert "is-delivered" in page
    assert "is-queued" in page
    for value in PERSONAL:
        assert value not in page


async def test_one_message_shows_its_timeline_masked(house: House) -> None:
    message_id = await add_message(house, tax_id=TAX_ID, tags=(("campaign", "november"),))
    await add_event(house, message_id, "sending")
    await add_event(house, message_id, "bounced", reply="550 5.1.1 <maria@example.com> is unknown here")
    await set_state(house, message_id, State.BOUNCED, reason="unknown_recipient")
    async with house.operator() as client:
        page = (await client.get(path_of(house, message_id))).text
    order = [page.index(f"<b>{kind}</b>") for kind in ("accepted", "sending", "bounced")]
    assert order == sorted(order)
    for shown in ("550 5.1.1", "unknown recipient", "m•••@example.com", "november", "reply is sealed", "Tax id"):
        assert shown in page, shown
    for value in (*PERSONAL, "is unknown here"):
        assert value not in page, value
    assert [action for _, action, _ in await house.audit()] == ["dashboard.logged_in"]


async def test_a_reason_shows_it_in_clear_and_is_kept(house: House) -> None:
    message_id = await add_message(house, tax_id=TAX_ID)
    await add_event(house, message_id, "bounced", reply="550 5.1.1 <maria@example.com> is unknown here")
    path = path_of(house, message_id)
    async with house.operator() as client:
        csrf = await csrf_of(client, path)
        answer = await client.post(f"{path}/reveal", data={"csrf": csrf, "reason": "ticket 4711"})
        assert answer.status_code == 200
        for value in ("maria@example.com", "Maria Silva", "Your invoice", "customer-77", "52998224725"):
            assert value in answer.text, value
        assert "550 5.1.1 &lt;maria@example.com&gt; is unknown here" in answer.text
        assert "Friday" not in answer.text
        assert "data-live=" not in answer.text
        assert "maria@" not in (await client.get(path)).text
    assert (await house.audit())[-1] == (OPERATOR, "message.revealed", "ticket 4711")
    row = await house.db.fetch_one("SELECT tenant_id, subject FROM audit WHERE action = 'message.revealed'")
    assert row is not None
    assert (row["tenant_id"], row["subject"]) == (house.tenant_id, str(message_id))


@pytest.mark.parametrize("reason", ["", "  ", "ab", "\x00\x01\x02"])
async def test_without_a_reason_nothing_is_shown(house: House, reason: str) -> None:
    message_id = await add_message(house)
    path = path_of(house, message_id)
    async with house.operator() as client:
        csrf = await csrf_of(client, path)
        answer = await client.post(f"{path}/reveal", data={"csrf": csrf, "reason": reason})
        assert answer.status_code == 422
        assert "maria@example.com" not in answer.text
    assert [action for _, action, _ in await house.audit()] == ["dashboard.logged_in"]


async def test_where_the_audit_cannot_be_written_nothing_is_shown(house: House) -> None:
    message_id = await add_message(house)
    path = path_of(house, message_id)
    async with house.operator() as client:
        csrf = await csrf_of(client, path)
        await house.db.execute("ALTER TABLE audit RENAME TO audit_gone")
        answer = await client.post(f"{path}/reveal", data={"csrf": csrf, "reason": "ticket 4711"})
        assert answer.status_code == 500
        assert "maria@example.com" not in answer.text


async def test_everything_hostile_is_escaped_masked_or_in_clear(house: House) -> None:
    hostile = content(
        subject=HOSTILE,
        sender=Address("billing@acme.example", HOSTILE),
        person_name=HOSTILE,
        external_id=HOSTILE,
        reply_to=(Address("reply@acme.example", HOSTILE),),
        envelope=("<img>@example.com",),
    )
    message_id = await add_message(house, hostile, tags=(("tag", HOSTILE),))
    await add_event(house, message_id, "bounced", reply=f"550 {HOSTILE}")
    await set_state(house, message_id, State.BOUNCED, reason=HOSTILE)
    path = path_of(house, message_id)
    async with house.operator() as client:
        csrf = await csrf_of(client, path)
        pages = [(await client.get(p)).text for p in (path, f"{path}/live", "/dashboard/messages")]
        pages.append((await client.post(f"{path}/reveal", data={"csrf": csrf, "reason": HOSTILE})).text)
    assert pages[-1].count("&lt;img src=x onerror=") >= 6
    for page in pages:
        assert "<img" not in page
        assert not re.search(r"<script(?! src=\"/dashboard/static/live.js\" defer></script>)", page)


async def test_another_tenants_message_is_not_found_under_this_tenant(house: House) -> None:
    message_id = await add_message(house)
    other = uuid4()
    await house.db.execute("INSERT INTO tenant (tenant_id, name) VALUES ($1, 'other')", other)
    async with house.operator() as client:
        assert (await client.get(f"/dashboard/messages/{other}/{message_id}")).status_code == 404


async def test_a_content_that_does_not_open_leaves_the_list_standing(house: House) -> None:
    readable = await add_message(house)
    broken = await add_message(house)
    await house.db.execute(
        "UPDATE message SET sealed_content = set_byte(sealed_content, 60, get_byte(sealed_content, 60) # 1)"
        " WHERE message_id = $1",
        broken,
    )
    async with house.operator() as client:
        page = (await client.get("/dashboard/messages")).text
        assert str(readable)[-12:] in page
        assert str(broken)[-12:] in page
        path = path_of(house, broken)
        assert (await client.get(path)).status_code == 200
        answer = await client.post(f"{path}/reveal", data={"csrf": await csrf_of(client, path), "reason": "ticket 12"})
        assert answer.status_code == 500


async def test_the_list_filters_by_tenant_and_state(house: House) -> None:
    queued, dead = await add_message(house), await add_message(house)
    await set_state(house, dead, State.DEAD)
    async with house.operator() as client:

        async def shown(query: str) -> set[UUID]:
            page = (await client.get(f"/dashboard/messages/live?{query}")).text
            return {UUID(found) for found in re.findall(r'data-key="([0-9a-f-]{36})"', page)}

        assert await shown("") == {queued, dead}
        assert await shown("state=dead") == {dead}
        assert await shown("state=bounced") == set()
        assert await shown(f"tenant={house.tenant_id}&state=queued") == {queued}
        assert await shown(f"tenant={uuid4()}") == set()
        assert await shown("tenant=nonsense&state=%3Cb%3E&before='") == {queued, dead}


async def test_the_list_is_read_page_by_page(house: House) -> None:
    ids = [await add_message(house) for _ in range(27)]
    async with house.operator() as client:
        first = (await client.get("/dashboard/messages/live")).text
        older = re.findall(r'href="(/dashboard/messages\?before=[^"]+)"', first)[0]
        second = (await client.get(older.replace("/messages?", "/messages/live?"))).text
    found = re.findall(r'data-key="([0-9a-f-]{36})"', first + second)
    assert [UUID(each) for each in found] == ids[::-1]
    assert "Older" not in second
    assert "Newest" in second
