"""What every process stands on: a database that is starting is waited for, one that stays away is an error."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from email_gateway.embedded import EmbeddedPostgres
from email_gateway.errors import DatabaseUnavailable
from email_gateway.foundation import connect

pytestmark = pytest.mark.anyio


async def test_a_database_that_starts_late_is_waited_for(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    url = server.start()
    server.stop()
    connecting = asyncio.create_task(connect(url))
    await asyncio.sleep(0)  # the first try finds nobody
    try:
        server.start()  # on the port it had before
        db = await connecting
        assert await db.fetch("SELECT 1")
        await db.close()
    finally:
        server.stop()


async def test_a_database_that_stays_away_is_an_error_that_may_pass() -> None:
    with pytest.raises(DatabaseUnavailable):
        await connect("postgresql://u:p@127.0.0.1:1/db", patience=timedelta(0))
