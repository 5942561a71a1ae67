import re
from dataclasses import replace

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from email_gateway.dashboard import build_dashboard
from email_gateway.store.sessions import make_login_link
from tests.dashboard.house import ADMIN_KEY, OPERATOR, House

pytestmark = pytest.mark.anyio

LOGIN = "/dashboard/login"


def transport(house: House, address: str) -> httpx.ASGITransport:
    """The same dashboard as seen by a client at this address."""
    app = Starlette(routes=[Mount("/dashboard", app=build_dashboard(house.context))])
    return httpx.ASGITransport(app=app, client=(address, 4321))


async def test_the_admin_key_and_a_name_open_a_session(house: House) -> None:
    async with house.operator() as client:
        answer = await client.get("/dashboard/")
        assert answer.status_code == 200
        assert OPERATOR in answer.text
    assert await house.audit() == [(OPERATOR, "dashboard.logged_in", None)]


async def test_a_wrong_key_opens_nothing_and_is_not_echoed(house: House) -> None:
    async with house.client() as client:
        answer = await client.post(LOGIN, data={"operator": OPERATOR, "key": "wrong-key-value"})
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert "wrong-key-value" not in answer.text
    assert await house.audit() == []


@pytest.mark.parametrize("name", ["", "   ", "\x00\x07\n"])
async def test_a_login_needs_a_name_for_the_audit(house: House, name: str) -> None:
    async with house.client() as client:
        answer = await client.post(LOGIN, data={"operator": name, "key": ADMIN_KEY})
        assert answer.status_code == 422
        assert "set-cookie" not in answer.headers


async def test_the_cookie_is_httponly_strict_bound_to_the_path_and_ends_in_twelve_hours(house: House) -> None:
    async with house.client() as client:
        answer = await client.post(LOGIN, data={"operator": OPERATOR, "key": ADMIN_KEY})
    parts = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert parts == {"httponly", "samesite=strict", "path=/dashboard", "max-age=43200"}


async def test_over_https_the_cookie_is_secure_too(house: House) -> None:
    async with httpx.AsyncClient(transport=transport(house, "203.0.113.9"), base_url="https://mail.example") as client:
        answer = await client.post(LOGIN, data={"operator": OPERATOR, "key": ADMIN_KEY})
    assert "; Secure" in answer.headers["set-cookie"]


async def test_no_token_is_stored_as_it_is(house: House) -> None:
    link = await make_login_link(house.db, OPERATOR)
    async with house.operator() as client:
        token = client.cookies["email_gateway_session"]
        csrf = re.search(r'name="csrf" value="(\w+)"', (await client.get("/dashboard/")).text)
        assert csrf is not None
        for table in ("dashboard_session", "login_link"):
            stored = str([tuple(row) for row in await house.db.fetch(f"SELECT * FROM {table}")])
            for secret in (token, csrf[1], link, ADMIN_KEY):
                assert secret not in stored


async def test_a_session_ends_when_the_admin_key_changes(house: House) -> None:
    async with house.operator() as client:
        assert (await client.get("/dashboard/")).status_code == 200
        house.secrets.value = "another-admin-key-of-these-tests-01234"
        answer = await client.get("/dashboard/")
        assert (answer.status_code, answer.headers["location"]) == (303, LOGIN)


async def test_the_previous_admin_key_opens_no_session(house: House) -> None:
    house.secrets.value, house.secrets.previous = "another-admin-key-of-these-tests-01234", ADMIN_KEY
    async with house.client() as client:
        answer = await client.post(LOGIN, data={"operator": OPERATOR, "key": ADMIN_KEY})
        assert answer.status_code == 401


async def test_a_session_ends_after_its_time(house: House) -> None:
    async with house.operator() as client:
        await house.db.execute("UPDATE dashboard_session SET expires_at = now()")
        assert (await client.get("/dashboard/")).headers["location"] == LOGIN


async def test_logging_out_ends_the_session_and_takes_the_cookie_back(house: House) -> None:
    async with house.operator() as client:
        token = client.cookies["email_gateway_session"]
        csrf = re.findall(r'name="csrf" value="(\w+)"', (await client.get("/dashboard/")).text)[0]
        answer = await client.post("/dashboard/logout", data={"csrf": csrf})
        assert answer.headers["location"] == LOGIN
        assert "Max-Age=0" in answer.headers["set-cookie"]
        client.cookies.set("email_gateway_session", token, path="/dashboard")
        assert (await client.get("/dashboard/")).status_code == 303
    assert [row["count"] for row in await house.db.fetch("SELECT count(*) FROM dashboard_session")] == [0]


async def test_who_is_logged_in_is_led_past_the_login(house: House) -> None:
    async with house.operator() as client:
        assert (await client.get(LOGIN)).headers["location"] == "/dashboard/"


async def test_ten_failures_make_an_address_wait_even_with_the_right_key(house: House) -> None:
    async with house.client() as client:
        for _ in range(10):
            await client.post(LOGIN, data={"operator": OPERATOR, "key": "wrong"})
        answer = await client.post(LOGIN, data={"operator": OPERATOR, "key": ADMIN_KEY})
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= 600
    async with httpx.AsyncClient(transport=transport(house, "203.0.113.9"), base_url="http://mail.example") as other:
        assert (await other.post(LOGIN, data={"operator": OPERATOR, "key": ADMIN_KEY})).status_code == 303


async def test_a_login_in_clear_from_elsewhere_is_refused_where_https_is_required(house: House) -> None:
    house.context = replace(house.context, requires_https=True)
    for address, base_url, status in (
        ("203.0.113.9", "http://mail.example", 403),
        ("203.0.113.9", "https://mail.example", 303),
        ("127.0.0.1", "http://127.0.0.1", 303),
    ):
        async with httpx.AsyncClient(transport=transport(house, address), base_url=base_url) as client:
            answer = await client.post(LOGIN, data={"operator": OPERATOR, "key": ADMIN_KEY})
            assert answer.status_code == status, (address, base_url)


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}],
    ids=["origin", "cross-site", "same-site"],
)
async def test_a_login_form_of_another_site_is_refused(house: House, headers: dict[str, str]) -> None:
    async with house.client() as client:
        answer = await client.post(LOGIN, data={"operator": OPERATOR, "key": ADMIN_KEY}, headers=headers)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


async def test_a_link_logs_in_once(house: House) -> None:
    token = await make_login_link(house.db, "Rui at the console")
    async with house.client() as client:
        first = await client.post(f"{LOGIN}/link", data={"token": token})
        assert (first.status_code, first.headers["location"]) == (303, "/dashboard/")
        assert "Rui at the console" in (await client.get("/dashboard/")).text
    async with house.client() as another:
        second = await another.post(f"{LOGIN}/link", data={"token": token})
        assert second.status_code == 403
        assert "set-cookie" not in second.headers
    assert await house.audit() == [("Rui at the console", "dashboard.logged_in_by_link", None)]


async def test_a_link_expires_after_ten_minutes(house: House) -> None:
    token = await make_login_link(house.db, OPERATOR)
    row = await house.db.fetch_one("SELECT expires_at - now() AS left FROM login_link")
    assert row is not None
    assert 590 < row["left"].total_seconds() <= 600
    await house.db.execute("UPDATE login_link SET expires_at = now()")
    async with house.client() as client:
        assert (await client.post(f"{LOGIN}/link", data={"token": token})).status_code == 403


@pytest.mark.parametrize("token", ["", "wrong", "x" * 5000, "\x00é"])
async def test_a_made_up_link_is_refused(house: House, token: str) -> None:
    async with house.client() as client:
        assert (await client.post(f"{LOGIN}/link", data={"token": token})).status_code == 403


@pytest.mark.parametrize("address", ["203.0.113.9", "10.0.0.7", "::ffff:203.0.113.9", "2001:db8::1", "testclient"])
async def test_a_link_from_another_machine_is_refused_and_stays_usable(house: House, address: str) -> None:
    token = await make_login_link(house.db, OPERATOR)
    async with httpx.AsyncClient(transport=transport(house, address), base_url="http://127.0.0.1") as client:
        assert (await client.post(f"{LOGIN}/link", data={"token": token})).status_code == 403
    async with house.client() as here:
        assert (await here.post(f"{LOGIN}/link", data={"token": token})).status_code == 303


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip"])
async def test_a_link_through_a_proxy_is_refused_whatever_the_proxy_says(house: House, header: str) -> None:
    token = await make_login_link(house.db, OPERATOR)
    async with house.client() as client:
        answer = await client.post(f"{LOGIN}/link", data={"token": token}, headers={header: "127.0.0.1"})
        assert answer.status_code == 403


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"])
async def test_every_loopback_address_is_this_machine(house: House, address: str) -> None:
    token = await make_login_link(house.db, OPERATOR)
    async with httpx.AsyncClient(transport=transport(house, address), base_url="http://127.0.0.1") as client:
        assert (await client.post(f"{LOGIN}/link", data={"token": token})).status_code == 303
