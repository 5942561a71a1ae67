"""Two processes of a fleet over one database; waiting for followers looks often."""

from datetime import timedelta

import pytest

from email_gateway.rekeying import followers
from email_gateway.store.database import Database
from tests.rekeying.process import Process


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers, "LOOK_EVERY", timedelta(milliseconds=10))


@pytest.fixture
async def one(db: Database) -> Process:
    return await Process.start(db)


@pytest.fixture
async def two(db: Database) -> Process:
    return await Process.start(db)
