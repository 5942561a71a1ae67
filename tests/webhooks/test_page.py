"""docs/webhooks.md: its programs and commands run, its tables are those of the code."""

import asyncio
import os
import re
import sys
from pathlib import Path
from uuid import UUID

import anyio
import pytest
import resend

from email_gateway.mail.webhooks import EVENTS
from email_gateway.store.webhooks import MAX_WEBHOOKS
from email_gateway.webhooks import posting
from email_gateway.webhooks.dispatching import ENDPOINTS_AT_A_TIME, RETRY_AFTER
from tests.api.conftest import shared
from tests.api.house import Served
from tests.webhooks.conftest import Hooked, dispatching
from tests.webhooks.receivers import Receiver

pytestmark = pytest.mark.anyio

__all__ = ["shared"]  # a fixture

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text(encoding="utf-8")
MAKE, RECEIVE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


async def test_the_program_that_makes_a_webhook_runs(shared: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resend, "api_url", f"{shared.url}/v1")
    monkeypatch.setattr(resend, "api_key", shared.acme_key)
    names: dict[str, object] = {}
    await asyncio.to_thread(exec, MAKE, names)
    assert str(names["secret"]).startswith("whsec_")


async def test_its_receiver_and_its_commands_work(hooked: Hooked, receiver: Receiver, database_url: str) -> None:
    webhook_id = await hooked.add_webhook(receiver)
    await hooked.accept()
    names: dict[str, object] = {}
    exec(RECEIVE, names)
    async with dispatching(hooked.db, hooked.keyring):
        (received,) = await receiver.until(1)
        receive = names["receive"]
        assert callable(receive)
        assert receive(hooked.secrets[webhook_id], received.headers, received.body)["type"] == "email.sent"
        await hooked.until_done(webhook_id)
        await run_commands(database_url, webhook_id)


async def run_commands(database_url: str, webhook_id: UUID) -> None:
    environ = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DATABASE_URL": database_url}
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    script = f"set -e\n{block.replace('WEBHOOK', str(webhook_id))}"
    done = await anyio.run_process(["bash", "-c", script], env=environ, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_its_tables_are_those_of_the_code() -> None:
    assert tuple(re.findall(r"^\| `(email\.\w+)` \|", PAGE, re.MULTILINE)) == EVENTS
    named = set(re.findall(r"`(\w+)`", PAGE.partition("## What comes of it")[2].partition("What did not arrive")[0]))
    assert named == set(posting.RESULTS)
    assert f"A tenant has {MAX_WEBHOOKS} webhooks at most" in PAGE
    assert f"serves {ENDPOINTS_AT_A_TIME} endpoints" in PAGE
    assert f"every {RETRY_AFTER[-1].total_seconds() / 3600:.0f} hours" in PAGE
    assert f"first {posting.KEPT_ANSWER_BYTES} bytes" in PAGE
