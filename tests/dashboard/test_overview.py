from datetime import timedelta

import pytest

from email_gateway.mail.deliveries import State
from email_gateway.store import holds, pace
from email_gateway.store.holds import Target
from email_gateway.store.pace import Why
from tests.dashboard.house import OPERATOR, House, add_message, content, set_state

pytestmark = pytest.mark.anyio


async def test_an_empty_gateway_shows_the_first_step(house: House) -> None:
    async with house.operator() as client:
        page = (await client.get("/dashboard/")).text
    assert "curl http://127.0.0.1:8025/v1/emails" in page
    assert "Difference 0." in page


async def test_the_counts_add_up_and_the_first_step_is_gone(house: House) -> None:
    for state in (State.DELIVERED, State.DELIVERED, State.KEPT, State.BOUNCED, State.DEAD, None):
        message_id = await add_message(house)
        if state:
            await set_state(house, message_id, state)
    async with house.operator() as client:
        page = " ".join((await client.get("/dashboard/")).text.split())
    assert "<b>6</b> accepted" in page
    for name, count in (("delivered", 2), ("kept", 1), ("bounced", 1), ("dead", 1), ("queued", 1), ("sending", 0)):
        assert (
            f'<span class="tile-count">{count}</span> <span class="tile-name"><span class="dot"></span>{name}' in page
        )
    assert "Difference 0." in page
    assert "curl " not in page


async def test_a_missing_delivery_shows_as_a_difference(house: House) -> None:
    await add_message(house)
    await house.db.execute("DELETE FROM delivery")
    async with house.operator() as client:
        page = (await client.get("/dashboard/")).text
    assert "Difference 1." in page
    assert "Difference 0." not in page


async def test_what_is_held_and_what_waits_for_a_person_is_named_with_what_to_do(house: House) -> None:
    await set_state(house, await add_message(house), State.DEAD, reason="in_doubt")
    await pace.hold(
        house.db, "smtp", "", Why("auth", "auth_failed", 535), probe_in=timedelta(minutes=5), is_probe=False
    )
    await holds.hold(house.db, Target(to="example.net"), actor=OPERATOR, reason="<b>ticket 4711</b>")
    async with house.operator() as client:
        page = " ".join((await client.get("/dashboard/")).text.split())
    for words in (
        "Waits for you",
        "<b>route smtp held</b>: auth_failed at auth (535), since",
        "Put the right user and password into the secret `smtp-url`",
        f"<b>mail to example.net held</b>: {OPERATOR}: &lt;b&gt;ticket 4711&lt;/b&gt;",
        "email-gateway queue release --to example.net",
        "<b>1 dead letters</b>: in_doubt",
        "`email-gateway dlq retry` sends it again",
    ):
        assert words in page


async def test_a_gateway_in_which_nothing_waits_says_nothing_of_it(house: House) -> None:
    async with house.operator() as client:
        assert "Waits for you" not in (await client.get("/dashboard/")).text


async def test_the_chart_has_sixty_minutes_and_a_text_alternative(house: House) -> None:
    await add_message(house)
    async with house.operator() as client:
        page = (await client.get("/dashboard/")).text
    assert page.count("accepted, ") >= 60
    assert "1 messages accepted, 0 deliveries delivered and 0 failed." in page
    assert 'role="img" aria-labelledby="chart-title chart-text"' in page


async def test_a_poll_brings_news_and_otherwise_nothing(house: House) -> None:
    async with house.operator() as client:
        first = await client.get("/dashboard/live")
        assert first.status_code == 200
        assert "<html" not in first.text
        same = await client.get("/dashboard/live", headers={"if-none-match": first.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")


async def test_a_tenants_name_is_escaped(house: House) -> None:
    await house.db.execute("UPDATE tenant SET name = '<img src=x onerror=alert(1)>'")
    await add_message(house, content())
    async with house.operator() as client:
        for path in ("/dashboard/", "/dashboard/messages", "/dashboard/live"):
            page = (await client.get(path)).text
            assert "<img" not in page
            assert "&lt;img src=x" in page
