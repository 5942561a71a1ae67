import re
from dataclasses import replace
from importlib.resources import files
from uuid import uuid4

import pytest
from starlette.routing import Route

from email_gateway.dashboard import build_dashboard
from email_gateway.dashboard.headers import MAIL_POLICY, PAGE_POLICY
from email_gateway.store.database import Database
from tests.dashboard.house import House, add_mail, add_message, raw_mail, served

pytestmark = pytest.mark.anyio

BANNER = '<p class="banner" role="alert">'
OPEN_PATHS = ("/login", "/login/link", "/static/{name}")


def every_route(house: House) -> list[tuple[str, str]]:
    """Return (method, path pattern) of every route of the dashboard."""
    routes = [route for route in build_dashboard(house.context).routes if isinstance(route, Route)]
    assert len(routes) > 15
    return [(method, route.path) for route in routes for method in sorted((route.methods or set()) - {"HEAD"})]


def fill(path: str, **params: object) -> str:
    """Put values, or random ids, into a pattern."""
    found = {"name": "look.css", "position": 0, **params}
    return "/dashboard" + re.sub(r"\{(\w+)(:\w+)?\}", lambda m: str(found.get(m[1], uuid4())), path)


def assert_guarded_headers(headers: object, policy: str = PAGE_POLICY) -> None:
    assert headers["content-security-policy"] == policy  # type: ignore[index]
    assert headers["x-content-type-options"] == "nosniff"  # type: ignore[index]
    assert headers["referrer-policy"] == "no-referrer"  # type: ignore[index]
    assert headers["cache-control"] == "no-store"  # type: ignore[index]
    assert headers["cross-origin-resource-policy"] == "same-origin"  # type: ignore[index]


async def test_without_a_session_every_route_leads_to_the_login(house: House) -> None:
    async with house.client() as client:
        for method, path in every_route(house):
            if path in OPEN_PATHS:
                continue
            answer = await client.request(method, fill(path), data={"csrf": "x"} if method == "POST" else None)
            assert (answer.status_code, answer.headers.get("location")) == (303, "/dashboard/login"), (method, path)
            assert answer.content == b"", (method, path)


async def test_without_its_csrf_token_every_post_of_a_session_is_refused(house: House) -> None:
    message_id = await add_message(house)
    async with house.operator() as client:
        posts = [path for method, path in every_route(house) if method == "POST" and path not in OPEN_PATHS]
        assert len(posts) >= 2
        for path in posts:
            address = fill(path, tenant_id=house.tenant_id, message_id=message_id)
            for form in ({}, {"csrf": ""}, {"csrf": "0" * 64}, {"csrf": "é"}):
                answer = await client.post(address, data={"reason": "ticket 12", **form})
                assert answer.status_code == 403, (path, form)
        assert (await client.get("/dashboard/")).status_code == 200
    assert [action for _, action, _ in await house.audit()] == ["dashboard.logged_in"]


async def test_the_csrf_token_of_another_session_is_refused(house: House) -> None:
    async with house.operator() as first, house.operator() as second:
        csrf = re.findall(r'name="csrf" value="(\w+)"', (await first.get("/dashboard/")).text)[0]
        assert (await second.post("/dashboard/logout", data={"csrf": csrf})).status_code == 403


async def test_a_form_of_another_site_is_refused_even_with_the_token(house: House) -> None:
    async with house.operator() as client:
        csrf = re.findall(r'name="csrf" value="(\w+)"', (await client.get("/dashboard/")).text)[0]
        answer = await client.post("/dashboard/logout", data={"csrf": csrf}, headers={"sec-fetch-site": "cross-site"})
        assert answer.status_code == 403


async def test_every_answer_carries_the_security_headers(house: House) -> None:
    message_id = await add_message(house)
    inbox_id = await add_mail(house, raw_mail(html="<p>Hi", files=(("a.txt", "text/plain", b"a"),)), message_id)
    known = {"tenant_id": house.tenant_id, "message_id": message_id, "inbox_id": inbox_id}
    async with house.client() as stranger, house.operator() as operator:
        for client in (stranger, operator):
            for method, path in every_route(house):
                answer = await client.request(method, fill(path, **known))
                assert answer.status_code < 500, (method, path)
                policy = answer.headers["content-security-policy"]
                assert "default-src 'none'" in policy, (method, path)
                assert "unsafe" not in policy or policy == MAIL_POLICY, (method, path)
                assert_guarded_headers(answer.headers, policy)


async def test_errors_carry_them_too_and_tell_nothing(house: House) -> None:
    async with house.operator() as client:
        for address, status in (
            ("/dashboard/nothing-here", 404),
            ("/dashboard/messages/not-an-id/x", 404),
            (fill("/messages/{tenant_id:uuid}/{message_id:uuid}"), 404),
            (fill("/inbox/{tenant_id:uuid}/{inbox_id:uuid}"), 404),
            ("/dashboard/static/..%2Fapp.py", 404),
        ):
            answer = await client.get(address)
            assert answer.status_code == status, address
            assert_guarded_headers(answer.headers)
        answer = await client.put("/dashboard/login")
        assert answer.status_code == 405
        assert_guarded_headers(answer.headers)


async def test_where_mail_is_kept_every_page_says_so_in_red_with_the_next_step(house: House) -> None:
    message_id = await add_message(house)
    inbox_id = await add_mail(house, raw_mail(), message_id)
    known = {"tenant_id": house.tenant_id, "message_id": message_id, "inbox_id": inbox_id}
    keeping = replace(house, context=replace(house.context, keeps_mail=True))
    seen = 0
    async with served(keeping), keeping.client() as stranger, keeping.operator() as operator:
        for client in (stranger, operator):
            for method, path in [*every_route(house), ("GET", "/nothing-here"), ("PUT", "/login")]:
                answer = await client.request(method, fill(path, **known))
                is_page = answer.text.startswith("<!doctype html>") and not path.endswith("/html")
                assert (BANNER in answer.text) == is_page, (method, path)
                assert not is_page or "set TRANSPORT=smtp and SMTP_URL" in answer.text
                seen += is_page
        await house.db.close()
        assert BANNER in (await operator.get("/dashboard/")).text
    assert seen > 15


async def test_where_developers_work_no_page_warns_of_the_inbox(house: House) -> None:
    async with house.client() as stranger, house.operator() as operator:
        for client, path in ((stranger, "/login"), (stranger, "/nothing-here"), (operator, "/"), (operator, "/inbox")):
            assert BANNER not in (await client.get(f"/dashboard{path}")).text


async def test_a_form_that_is_too_large_or_no_form_is_refused(house: House) -> None:
    async with house.client() as client:
        large = await client.post("/dashboard/login", data={"operator": "x" * 20_000, "key": "k"})
        assert large.status_code == 413
        for body, kind in (("{}", "application/json"), ("a=%ff", "application/x-www-form-urlencoded")):
            answer = await client.post("/dashboard/login", content=body, headers={"content-type": kind})
            assert answer.status_code == 422
            assert_guarded_headers(answer.headers)


async def test_while_the_database_is_away_the_page_says_so_and_no_more(house: House) -> None:
    async with house.operator() as client:
        await house.db.close()
        answer = await client.get("/dashboard/")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert "PostgreSQL" not in answer.text
        assert_guarded_headers(answer.headers)


async def test_an_error_nobody_foresaw_shows_nothing_of_the_inside(house: House) -> None:
    async with house.operator() as client:
        await house.db.execute("ALTER VIEW running_conservation RENAME COLUMN dead TO gone")
        answer = await client.get("/dashboard/")
        assert answer.status_code == 500
        assert "conservation" not in answer.text
        assert_guarded_headers(answer.headers)


def test_no_template_trusts_a_value_or_holds_inline_code() -> None:
    templates = list((files("email_gateway.dashboard") / "templates").iterdir())
    assert len(templates) > 8
    for template in templates:
        text = template.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", text), template.name
        assert not re.search(r"\sstyle\s*=|<style|\son[a-z]+\s*=|javascript:", text), template.name
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), template.name


def test_the_scripts_and_styles_ask_for_nothing_from_elsewhere() -> None:
    for file in (files("email_gateway.dashboard") / "static").iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z]|@import|url\(|\beval\b|innerHTML", text), file.name


async def test_a_gateway_that_sends_has_no_inbox(db: Database, house: House) -> None:
    object.__setattr__(house.context, "has_inbox", False)
    inbox_id = await add_mail(house, raw_mail())
    async with house.operator() as client:
        assert "/dashboard/inbox" not in (await client.get("/dashboard/")).text
        for method, path in every_route(house):
            if path.startswith("/inbox"):
                answer = await client.request(method, fill(path, tenant_id=house.tenant_id, inbox_id=inbox_id))
                assert answer.status_code == 404, path
