"""`email-gateway webhooks`, as the process that a person starts, beside a worker's dispatcher."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from typing import Any
from uuid import uuid4

import anyio
import pytest

from email_gateway.store.audit import list_audit
from email_gateway.store.database import Database
from email_gateway.store.webhooks import update_webhook
from tests.plugins.marks import session_watch
from tests.webhooks.conftest import Hooked, dispatching, hooked, receiver
from tests.webhooks.receivers import OK, Receiver, status

pytestmark = pytest.mark.anyio

__all__ = ["hooked", "receiver"]  # fixtures


class Command:
    """Runs `email-gateway webhooks ...` against one database."""

    def __init__(self, database_url: str) -> None:
        self._environ = {"PATH": os.environ["PATH"], "LOG_LEVEL": "DEBUG", "DATABASE_URL": database_url}

    async def run(self, *arguments: str, code: int = 0) -> "subprocess.CompletedProcess[bytes]":
        command = [sys.executable, "-P", "-m", "email_gateway.cli", "webhooks", *arguments]
        done = await anyio.run_process(command, env=self._environ, check=False)
        session_watch().keep("commands.log", (done.stderr + done.stdout).decode(errors="replace"))
        assert done.returncode == code, done.stderr.decode()
        return done

    async def told(self, *arguments: str, code: int = 0) -> Any:
        return json.loads((await self.run(*arguments, "--json", code=code)).stdout)


@pytest.fixture
def webhooks(database_url: str) -> Command:
    return Command(database_url)


async def test_webhooks_are_listed_and_shown_with_what_was_sent(
    webhooks: Command, hooked: Hooked, receiver: Receiver
) -> None:
    assert "no tenant has a webhook" in (await webhooks.run("list")).stdout.decode()
    receiver.answer = status(500)
    webhook_id = await hooked.add_webhook(receiver, "email.sent")
    message_id = await hooked.accept()
    async with dispatching(hooked.db, hooked.keyring):
        await hooked.until_done(webhook_id)
        (listed,) = (await webhooks.told("list"))["webhooks"]
        assert (listed["tenant"], listed["host"], listed["status"]) == ("acme", "127.0.0.1", "enabled")
        assert (listed["waiting"], listed["last_result"]) == (1, "refused")
        assert listed["failures"] >= 1
        text = (await webhooks.run("list")).stdout.decode()
        assert "fails for" in text
        assert "token=x" not in text  # the endpoint is sealed
        receiver.answer = OK
        await hooked.hurry(receiver, len(receiver.received) + 1)
        await hooked.until_done(webhook_id)
    shown = await webhooks.told("show", str(webhook_id))
    (delivery,) = shown["deliveries"]
    assert (delivery["type"], delivery["message_id"]) == ("email.sent", str(message_id))
    assert (delivery["state"], delivery["status"]) == ("delivered", 200)
    assert delivery["attempts"] >= 2
    text = (await webhooks.run("show", str(webhook_id))).stdout.decode()
    assert f"email.sent, mail {message_id}" in text
    assert f"delivered after {delivery['attempts']} attempts, delivered 200 in" in text


async def test_what_was_sent_is_sent_again_and_the_audit_says_who_asked(
    webhooks: Command, hooked: Hooked, receiver: Receiver, db: Database
) -> None:
    webhook_id = await hooked.add_webhook(receiver, "email.sent")
    await hooked.accept()
    async with dispatching(hooked.db, hooked.keyring):
        (row,) = await hooked.until_done(webhook_id)
        assert (await webhooks.told("replay", str(webhook_id), "--failed"))["replayed"] == 0
        assert (await webhooks.told("replay", str(webhook_id), "--newer-than", "1h"))["replayed"] == 1
        await receiver.until(2)
        await hooked.until_done(webhook_id)
        again = await webhooks.run("replay", str(webhook_id), "--delivery", str(row["delivery_id"]))
        assert "1 deliveries are sent again" in again.stdout.decode()
        await receiver.until(3)
    assert {one.headers["webhook-id"] for one in receiver.received} == {str(row["delivery_id"])}
    assert {entry.action for entry in await list_audit(db)} == {"webhook.replayed"}


async def test_a_test_says_what_came_of_it(webhooks: Command, hooked: Hooked, receiver: Receiver) -> None:
    webhook_id = await hooked.add_webhook(receiver)
    async with dispatching(hooked.db, hooked.keyring):
        arrived = (await webhooks.run("test", str(webhook_id))).stdout.decode()
        assert "webhook.test\n  delivered after 1 attempts, delivered 200" in arrived
        receiver.answer = status(500)
        failed = await webhooks.run("test", str(webhook_id), code=1)
        assert "the test did not arrive: refused" in failed.stderr.decode()
    await update_webhook(hooked.db, hooked.tenant_id, webhook_id, status="disabled")
    disabled = await webhooks.run("test", str(webhook_id), code=1)
    assert "the webhook is disabled" in disabled.stderr.decode()


async def test_a_test_without_a_worker_says_so(
    webhooks: Command, hooked: Hooked, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from email_gateway.cli import webhooks as module
    from email_gateway.cli.exits import CommandFailed

    webhook_id = await hooked.add_webhook(receiver)
    monkeypatch.setattr(module, "TEST_PATIENCE", timedelta(seconds=0.2))
    for name, value in webhooks._environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CommandFailed, match="no worker sent the test yet"):
        await module._test(None, webhook_id)


async def test_what_cannot_be_done_is_said(webhooks: Command, hooked: Hooked, receiver: Receiver) -> None:
    webhook_id = await hooked.add_webhook(receiver)
    assert b"say which" in (await webhooks.run("replay", str(webhook_id), code=2)).stderr
    assert b"30m, 12h or 7d" in (await webhooks.run("replay", str(webhook_id), "--newer-than", "soon", code=2)).stderr
    for command in ("show", "test"):
        assert b"no such webhook" in (await webhooks.run(command, str(uuid4()), code=1)).stderr
