"""Secrets and keys in a real Chromium while the encryption key of a real fleet rotates: pictures, width, contrast."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import pytest
from playwright.async_api import Browser, Page

from email_gateway.dashboard import DashboardContext
from email_gateway.fleet import refresh_fleet
from email_gateway.rekeying.reseal import Resealing
from email_gateway.rekeying.walking import Pace
from email_gateway.store.database import Database
from email_gateway.store.key_walks import Relation
from email_gateway.vault.adoption import stage, verify
from tests.dashboard.house import House, KeySource, add_message, served
from tests.dashboard.test_browser import SCREENSHOTS, browser, watch  # noqa: F401  (a fixture)
from tests.fleet.conftest import Join, Member, join  # noqa: F401  (a fixture)
from tests.plugins.secrets_manager import VALUES, Aws

pytestmark = [pytest.mark.anyio, pytest.mark.needs("chromium")]

NEW_VALUE = "MARK-new-key-8e21bb0c-55d1-4c1e-9a77-0123456789ab"
NEWER_VALUE = "MARK-newer-key-0b7e5a11-77f2-4d2f-8c66-0123456789ab"
LOOKS = [(size, scheme) for size in ("wide", "narrow") for scheme in ("light", "dark")]
SIZES = {"wide": {"width": 1280, "height": 860}, "narrow": {"width": 360, "height": 780}}
LEAST_CONTRAST = 4.5  # WCAG 2.2, success criterion 1.4.3, for text that is not large

# Every text that is seen, with the contrast of its colour against what is painted below it. A canvas reads colours
# of any notation (color-mix computes to `color(srgb ...)`).
FAINT_TEXTS = """(least) => {
    const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = colour;
        pen.fillRect(0, 0, 1, 1);
        return [...pen.getImageData(0, 0, 1, 1).data].map((part) => part / 255);
    };
    const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
    const ground = (element) => {
        if (!element) return [1, 1, 1];
        const own = rgba(getComputedStyle(element).backgroundColor);
        return own[3] === 1 ? own.slice(0, 3) : over(own, ground(element.parentElement));
    };
    const light = (colour) => {
        const [r, g, b] = colour.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const faint = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        if (!texts.currentNode.data.trim() || !element.checkVisibility() || element.closest("svg, .hidden, .skip")) continue;
        const below = ground(element);
        const [a, b] = [light(over(rgba(getComputedStyle(element).color), below)), light(below)].sort((x, y) => y - x);
        const contrast = (a + 0.05) / (b + 0.05);
        if (contrast < least) faint.push(`${texts.currentNode.data.trim()}: ${contrast.toFixed(2)}`);
    }
    return faint;
}"""
# What is cut off at the side, or can only be reached by scrolling sideways.
CUT_OFF = """() => [...document.querySelectorAll("main *")]
    .filter((box) => box.checkVisibility() && !box.closest(".hidden, svg, thead") && box.getBoundingClientRect().right > innerWidth + 0.5)
    .map((box) => `${box.tagName} ${box.className}`)"""


@dataclass
class Rotating:
    """A fleet of two processes, the dashboard of one of them, and an operator's browser in every size and palette."""

    house: House
    api: Member
    worker: Member
    pages: dict[tuple[str, str], Page]

    async def everywhere(self, text: str | re.Pattern[str]) -> None:
        """Wait until every page shows the text by itself."""
        await asyncio.gather(*(page.get_by_text(text).first.wait_for() for page in self.pages.values()))

    async def photograph(self, name: str) -> None:
        """Photograph each page, and hold it to its width, its contrast and its silence about values."""
        for (size, scheme), page in self.pages.items():
            await page.screenshot(path=SCREENSHOTS / f"keys-{name}-{size}-{scheme}.png", full_page=True)
            where = f"{name}, {size}, {scheme}"
            assert await page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"], where
            assert await page.evaluate(CUT_OFF) == [], where
            assert await page.evaluate(FAINT_TEXTS, LEAST_CONTRAST) == [], where
            text = await page.content()
            assert not [value for value in (*VALUES.values(), NEW_VALUE, NEWER_VALUE, "MARK") if value in text], where


@asynccontextmanager
async def open_dashboard(db: Database, member: Member, tenant_id: UUID) -> AsyncIterator[House]:
    context = DashboardContext(
        db=db, keyring=member.keyring, secrets=member.secrets, has_inbox=True, api_url="http://127.0.0.1:8025/v1"
    )
    async with served(House(db, member.keyring, tenant_id, KeySource(), context)) as house:
        yield house


@pytest.fixture
async def rotating(
    join: Join,  # noqa: F811
    db: Database,
    tenant_id: UUID,
    browser: Browser,  # noqa: F811
) -> AsyncIterator[Rotating]:
    api, worker = await join("api"), await join("worker")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    async with open_dashboard(db, api, tenant_id) as house:
        pages = {}
        for size, scheme in LOOKS:
            watched = await watch(browser, viewport=SIZES[size], color_scheme=scheme, reduced_motion="reduce")
            # Each lays a context of its own open: its cookie, its colours.
            admin = house.context.secrets.get("admin-api-key").value
            await log_in_with(house, watched.page, admin)
            await watched.page.goto(f"{house.url}/dashboard/keys")
            pages[size, scheme] = watched.page
        yield Rotating(house, api, worker, pages)


async def log_in_with(house: House, page: Page, admin_key: str) -> None:
    await page.goto(f"{house.url}/dashboard/login")
    await page.get_by_label("Your name").fill("Ana Operator")
    await page.get_by_label("Admin key").fill(admin_key)
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url("**/dashboard/")


async def test_a_whole_rotation_is_seen_by_whoever_keeps_the_page_open(rotating: Rotating, aws: Aws) -> None:
    house, api = rotating.house, rotating.api
    await rotating.everywhere("No rotation yet")
    await rotating.everywhere("None yet: a tenant's first mail makes its keys.")
    await rotating.photograph("1-none")

    for _ in range(40):
        await add_message(house, tax_id=b"\x01\x0b52998224725\x00\x00\x00")
    secret = f"{aws.prefix}/encryption-key"
    pending = aws.client.put_secret_value(SecretId=secret, SecretString=NEW_VALUE, VersionStages=["AWSPENDING"])
    staged = await stage(house.db, api.keyring.roots, pending["VersionId"])
    await verify(house.db, api.keyring.roots, staged.root_id)
    await rotating.everywhere("A rotation is under way")
    await rotating.everywhere("waits for the label AWSCURRENT")
    await rotating.photograph("2-staged")

    aws.client.update_secret_version_stage(
        SecretId=secret,
        VersionStage="AWSCURRENT",
        MoveToVersionId=pending["VersionId"],
        RemoveFromVersionId=aws.versions["encryption-key"],
    )
    done = await refresh_fleet(api.fleet, actor="Ana Operator")
    assert done.complete
    await rotating.everywhere("The last rotation is complete; the old root key waits to be retired")
    await rotating.everywhere("2 of 2")
    await rotating.everywhere(pending["VersionId"][:8])

    await api.keyring.renew_field_key(house.tenant_id, actor="Ana Operator")
    resealing = asyncio.create_task(
        Resealing(house.db, api.keyring, house.tenant_id, Relation.MESSAGE).run(Pace(6), lambda _: None)
    )
    await rotating.everywhere("acme: message")
    await rotating.everywhere(re.compile(r"about [1-9]\d %"))
    await rotating.photograph("3-resealing")
    await resealing
    await rotating.everywhere("80 moved")
    await rotating.everywhere("done,")


async def test_a_process_that_stays_behind_is_named(rotating: Rotating, aws: Aws, join: Join) -> None:  # noqa: F811
    await join("worker", is_following=False)
    version = aws.put("encryption-key", NEWER_VALUE)
    await refresh_fleet(rotating.api.fleet, actor="Ana Operator")
    await rotating.everywhere("A change is being taken up: 1 of 3 processes are on their way to it.")
    await rotating.photograph("4-on-their-way")
    await rotating.house.db.execute("UPDATE generation SET changed_at = now() - interval '1 minute'")
    await rotating.house.db.execute(
        "UPDATE secret_version SET current_since = now() - interval '80 days' WHERE current_since IS NOT NULL"
    )
    await rotating.house.db.execute("UPDATE crypto_root SET activated_at = activated_at - interval '1 day',"
                                    " created_at = created_at - interval '1 day'")  # fmt: skip
    await rotating.everywhere("holds another version of encryption-key")
    await rotating.everywhere("is 80 days old, 60 are the most")
    await rotating.everywhere(version[:8])
    await rotating.photograph("5-behind")
