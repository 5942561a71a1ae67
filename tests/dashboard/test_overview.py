import pytest

from email_gateway.mail.deliveries import State
from tests.dashboard.house import House, add_message, content, set_state

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
    await house.db.execute("UPDATE message SET delivery_count = 3")
    async with house.operator() as client:
        page = (await client.get("/dashboard/")).text
    assert "Difference 2." in page
    assert "Difference 0." not in page


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
