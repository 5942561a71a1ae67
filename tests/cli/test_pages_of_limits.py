"""docs/suppressions.md and docs/limits.md: every command on them runs as it stands and prints what stands below it."""

import os
import sys
import uuid
from pathlib import Path

import anyio
import pytest

from email_gateway.store.database import Database
from tests.conftest import KEY, SALT
from tests.pages.console import read_steps, words

pytestmark = pytest.mark.anyio

DOCS = Path(__file__).parents[2] / "docs"
KEYS = {"ENCRYPTION_KEY": KEY, "ENCRYPTION_SALT": SALT, "ADMIN_API_KEY": "an-admin-key-for-tests-of-forty-characters"}


@pytest.mark.parametrize("page", ["suppressions.md", "limits.md"])
async def test_every_command_of_the_page_prints_what_it_says(
    database_url: str, db: Database, tmp_path: Path, page: str
) -> None:
    await db.execute("INSERT INTO tenant (tenant_id, name) VALUES ($1, 'demo')", uuid.uuid4())
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {"PATH": path, "DATABASE_URL": database_url, "LANG": "C.UTF-8", **KEYS}
    steps = read_steps((DOCS / page).read_text())
    assert steps
    for step in steps:
        done = await anyio.run_process(["/bin/sh", "-eu", "-c", step.command], env=environ, check=False, cwd=tmp_path)
        assert done.returncode == 0, f"{step.command}\n{done.stderr.decode()}"
        assert words(done.stdout.decode()) == words(step.output), step.command
