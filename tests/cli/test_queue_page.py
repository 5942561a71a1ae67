"""docs/queue.md is for three in the morning: every command on it runs as it stands, in its order."""

import os
import re
import sys
import uuid
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from email_gateway.store import pace
from email_gateway.store.accepting import Acceptor
from email_gateway.store.database import Database
from email_gateway.store.pace import Why
from tests.makers import new_message, new_request

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "queue.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


async def test_every_command_of_the_page_runs_and_leaves_nothing_held(database_url: str, db: Database) -> None:
    tenant = uuid.uuid4()
    await db.execute("INSERT INTO tenant (tenant_id, name) VALUES ($1, 'billing')", tenant)
    for reason in ("in_doubt", "worker_lost"):
        message = new_message()
        await Acceptor(db).accept(new_request(tenant, message))
        await db.execute(
            "UPDATE delivery SET state = 'dead', reason = $2, finished_at = now() - interval '8 days' WHERE message_id = $1",
            message.message_id,
            reason,
        )
    await pace.hold(db, "smtp", "", Why("auth", "auth_failed", 535), probe_in=timedelta(minutes=5), is_probe=False)

    environ = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DATABASE_URL": database_url}
    told = ""
    for block in BLOCKS:
        done = await anyio.run_process(["/bin/sh", "-eu", "-c", block], env=environ, check=False)
        assert done.returncode == 0, f"{block}{done.stderr.decode()}"
        told += done.stdout.decode()
    for words in ("auth_failed at auth (535)", "probed now: route smtp", "queued again: 1", "discarded: 1"):
        assert words in told
    rows = await db.fetch("SELECT held_by FROM pace")
    assert [row["held_by"] for row in rows] == ["replies"], "what servers said counts again"
    assert [row["state"] for row in await db.fetch("SELECT state FROM delivery ORDER BY state")] == [
        "cancelled",
        "queued",
    ]
