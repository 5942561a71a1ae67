"""The pages in a real Chromium: what runs, what is refused, and what they look like."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright

from email_gateway.store.sessions import make_login_link
from tests.dashboard.house import HOSTILE, OPERATOR, House, add_event, add_mail, add_message, content, raw_mail
from tests.dashboard.scenes import fill_hour, invoice_html
from tests.plugins.system_packages import find_program

pytestmark = [pytest.mark.anyio, pytest.mark.needs("chromium")]

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
ARGUMENTS = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
COUNT_VIOLATIONS = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (v) => window.violations.push(v.violatedDirective));
"""
HOSTILE_HTML = """<html><head><meta http-equiv="refresh" content="0; url=/dashboard/login"></head><body>
    <h1 id="sign">The mail itself</h1>
    <script>document.getElementById("sign").textContent = "script ran"; alert("script")</script>
    <img src="x" onerror="alert('handler'); document.getElementById('sign').textContent = 'handler ran'">
    <a id="out" href="javascript:alert('link')">click</a>
    <a id="top" href="/dashboard/login" target="_top">top</a>
    <form action="/dashboard/logout" method="post"><button id="send">send</button></form>
    <iframe src="/dashboard/"></iframe><object data="/dashboard/"></object>
    <svg onload="alert('svg')"></svg><style>#sign { color: rgb(1, 2, 3) }</style></body></html>"""


@dataclass
class Watched:
    """A page and everything that should not happen on it."""

    page: Page
    dialogs: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def violations(self) -> list[str]:
        return await self.page.evaluate("window.violations")  # type: ignore[no-any-return]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=find_program("chromium"), args=ARGUMENTS)
        yield launched
        await launched.close()


async def watch(browser: Browser, **options: object) -> Watched:
    context = await browser.new_context(**options)  # type: ignore[arg-type]
    await context.add_init_script(COUNT_VIOLATIONS)
    watched = Watched(await context.new_page())

    async def dismiss(dialog: object) -> None:
        watched.dialogs.append(dialog.message)  # type: ignore[attr-defined]
        await dialog.dismiss()  # type: ignore[attr-defined]

    watched.page.on("dialog", dismiss)
    watched.page.on("console", lambda line: watched.complaints.append(line.text) if line.type == "error" else None)
    watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    watched.page.on("request", lambda request: watched.asked.append(request.url))
    return watched


async def log_in(house: House, page: Page) -> None:
    token = await make_login_link(house.db, OPERATOR)
    await page.goto(f"{house.url}/dashboard/login#token={token}")
    await page.wait_for_url("**/dashboard/")


async def test_a_link_logs_in_and_leaves_no_token_behind(house: House, browser: Browser) -> None:
    watched = await watch(browser)
    await log_in(house, watched.page)
    assert await watched.page.get_by_text(OPERATOR).is_visible()
    assert await watched.page.evaluate("document.cookie") == ""
    assert "token" not in watched.page.url
    await watched.page.go_back()
    assert "token" not in watched.page.url
    assert not [address for address in watched.asked if "token" in address]
    assert watched.complaints == []
    cookie = (await watched.page.context.cookies())[0]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/dashboard")


async def test_a_used_link_says_so_and_the_key_form_works(house: House, browser: Browser) -> None:
    page = (await watch(browser)).page
    await page.goto(f"{house.url}/dashboard/login#token=made-up")
    await page.get_by_role("alert").wait_for()
    await page.get_by_label("Your name").fill(OPERATOR)
    await page.get_by_label("Admin key").fill(house.secrets.value)
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url("**/dashboard/")
    await page.get_by_role("button", name="Log out").click()
    await page.wait_for_url("**/dashboard/login")


async def test_a_mail_appears_by_itself_and_its_html_can_do_nothing(house: House, browser: Browser) -> None:
    watched = await watch(browser)
    page = watched.page
    await log_in(house, page)
    await page.get_by_role("navigation").get_by_role("link", name="Inbox").click()
    await page.get_by_text("No mail yet.").wait_for()
    hostile = (("<img src=x onerror=alert(3)>.svg", "image/svg+xml", b"<svg onload='alert(4)'/>"),)
    await add_mail(house, raw_mail(subject=HOSTILE, html=HOSTILE_HTML, files=hostile))
    await page.get_by_text("img src=x").first.click()
    await page.get_by_role("heading", name="onerror").wait_for()
    assert await watched.violations() == []
    frame = page.frame_locator("iframe.paper")
    sign = frame.locator("#sign")
    await sign.wait_for()
    assert await sign.text_content() == "The mail itself"
    assert await sign.evaluate("e => getComputedStyle(e).color") == "rgb(1, 2, 3)"
    assert await sign.evaluate("() => self.origin") == "null"
    for link in ("#out", "#top", "#send"):
        await frame.locator(link).click()
    await page.get_by_role("link", name="Raw source").click()
    await page.get_by_role("heading", name="Raw source").wait_for()
    assert watched.dialogs == []
    assert await watched.violations() == []
    assert {address for address in watched.asked if not address.startswith((house.url, "data:"))} == set()
    assert not [address for address in watched.asked if address.endswith("/logout")]


async def test_hostile_names_and_replies_run_nothing_and_break_no_policy(house: House, browser: Browser) -> None:
    message_id = await add_message(house, content(subject=HOSTILE, person_name=HOSTILE), tags=(("t", HOSTILE),))
    await add_event(house, message_id, "bounced", reply=f"550 {HOSTILE}")
    watched = await watch(browser)
    page = watched.page
    await log_in(house, page)
    await page.get_by_role("navigation").get_by_role("link", name="Messages").click()
    await page.get_by_role("link", name=str(message_id)[-12:]).click()
    await page.get_by_text("The server's reply is sealed.").wait_for()
    await page.get_by_label("Reason").fill(f"ticket 4711 {HOSTILE}")
    await page.get_by_role("button", name="Show in clear").click()
    await page.get_by_text('550 "><img src=x').wait_for()
    assert await page.locator("img").count() == 0
    assert (watched.dialogs, watched.complaints, await watched.violations()) == ([], [], [])


async def test_the_timeline_follows_the_message(house: House, browser: Browser) -> None:
    message_id = await add_message(house)
    page = (await watch(browser)).page
    await log_in(house, page)
    await page.goto(f"{house.url}/dashboard/messages/{house.tenant_id}/{message_id}")
    await add_event(house, message_id, "sending")
    await page.locator(".timeline .on-sending").wait_for()
    await add_event(house, message_id, "delivered")
    await page.locator(".timeline .on-delivered").wait_for()


async def test_an_ended_session_leads_an_open_page_to_the_login(house: House, browser: Browser) -> None:
    page = (await watch(browser)).page
    await log_in(house, page)
    await house.db.execute("DELETE FROM dashboard_session")
    await page.wait_for_url("**/dashboard/login")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("size", "width", "height"), [("wide", 1280, 860), ("narrow", 390, 844)])
async def test_every_page_is_photographed_and_fits_its_width(
    house: House, browser: Browser, scheme: str, size: str, width: int, height: int
) -> None:
    watched = await watch(
        browser,
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        device_scale_factor=1.5,
        reduced_motion="reduce",
    )
    page = watched.page
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)

    async def photograph(name: str) -> None:
        await page.screenshot(path=SCREENSHOTS / f"{name}-{size}-{scheme}.png", full_page=True)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width, name

    await page.goto(f"{house.url}/dashboard/login")
    await photograph("login")
    await log_in(house, page)
    await photograph("overview-empty")
    bounced = await fill_hour(house)
    inbox_id = await add_mail(
        house, raw_mail(html=invoice_html(), files=(("invoice-1042.pdf", "application/pdf", b"%PDF" * 9000),))
    )
    message = f"{house.url}/dashboard/messages/{house.tenant_id}/{bounced}"
    for name, address in (
        ("overview", f"{house.url}/dashboard/"),
        ("messages", f"{house.url}/dashboard/messages"),
        ("message", message),
        ("inbox", f"{house.url}/dashboard/inbox"),
        ("mail", f"{house.url}/dashboard/inbox/{house.tenant_id}/{inbox_id}"),
        ("source", f"{house.url}/dashboard/inbox/{house.tenant_id}/{inbox_id}/source"),
        ("problem", f"{house.url}/dashboard/nothing"),
    ):
        await page.goto(address)
        await photograph(name)
    await page.goto(message)
    await page.get_by_label("Reason").fill("ticket 4711")
    await page.get_by_role("button", name="Show in clear").click()
    await page.get_by_role("status").wait_for()
    await photograph("message-revealed")
    assert watched.dialogs == []
