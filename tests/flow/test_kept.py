"""A deployed gateway whose mail goes nowhere: it does not start by accident, and says so when it was told to."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.gateway import COMMAND, Gateway
from email_gateway.store.database import Database
from tests.flow.caller import Caller
from tests.flow.conftest import Run
from tests.flow.operator import Operator
from tests.marks import marked
from tests.plugins.marks import Watch

pytestmark = pytest.mark.anyio

STAGING = {"APP_ENV": "staging", "TRANSPORT": "inbox"}
BANNER = "Mail is kept here and not sent: TRANSPORT is inbox."


@pytest.fixture(scope="module")
def gateway(run: Run) -> Iterator[Gateway]:
    """A staging gateway that was told by name to keep its mail."""
    with run("api", "worker", **STAGING) as gateway:
        yield gateway


def start(gateway: Gateway, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of this gateway to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**gateway.environ, **environ},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("part", ["api", "worker", "up"])
def test_staging_without_a_transport_does_not_start_and_names_it(gateway: Gateway, tmp_path: Path, part: str) -> None:
    home = ("--home", str(tmp_path)) if part == "up" else ()
    ended = start(gateway, part, *home, TRANSPORT="")
    assert ended.returncode == 78, ended.stderr
    assert "TRANSPORT must be set in staging: to smtp, with SMTP_URL" in ended.stderr


async def test_mail_that_goes_nowhere_ends_as_kept_and_never_as_delivered(
    gateway: Gateway, caller: Caller, db: Database
) -> None:
    people = [f"{marked('ana')}@example.net", f"bounce+{marked('bia')}@example.net"]
    email_id = await caller.send(to=people)
    email = await caller.wait_for(email_id, "kept", "kept")
    assert email["last_event"] == "failed"
    assert [one["reason"] for one in email["deliveries"]] == ["not_sent", "not_sent"]
    assert [one["type"] for one in await caller.timeline(email_id)] == ["accepted", *["sending"] * 2, *["kept"] * 2]
    (books,) = await db.fetch("SELECT * FROM conservation")
    assert books["accepted"] == books["kept"] >= 2
    assert (books["delivered"], books["difference"]) == (0, 0)


async def test_health_is_degraded_and_names_the_transport(caller: Caller) -> None:
    ready = await caller.http.get("/v1/health/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["checks"]["transport"] == "inbox"
    assert (await caller.admin.get("/health")).json()["status"] == "degraded"


def test_a_command_that_waits_for_the_mail_fails_and_says_why(gateway: Gateway) -> None:
    key = ("--url", gateway.url, "--api-key", gateway.api_key)
    sent = start(gateway, "send", "--to", f"{marked('rui')}@example.net", "--wait", *key)
    assert sent.returncode == 1, sent.stderr
    assert "the mail was kept by the gateway and not sent" in sent.stderr
    assert "TRANSPORT=smtp" in sent.stderr
    status = start(gateway, "status")
    assert "api     degraded" in status.stdout
    assert "transport inbox" in status.stdout
    assert "kept" in status.stdout


def test_every_process_warns_at_its_start(gateway: Gateway, watch: Watch) -> None:
    for part in ("api", "worker"):
        logs = [log.read_text() for log in watch.folder.glob(f"{part}-*.log")]
        assert any("TRANSPORT is inbox: mail is kept here and not sent to anyone." in log for log in logs), part


async def test_every_page_of_the_dashboard_shows_the_banner(gateway: Gateway) -> None:
    operator = Operator(gateway)
    await operator.look_at_everything()
    await operator.close()
    pages = {path: page for path, page in operator.opened.items() if page.startswith("<!doctype html>")}
    assert len(pages) > 4
    assert [path for path, page in pages.items() if BANNER not in page and not path.endswith("/html")] == []
