"""The house of each test: a dashboard over a database of its own."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from email_gateway.dashboard import DashboardContext
from email_gateway.store.database import Database
from email_gateway.vault.keyring import Keyring
from tests.dashboard.house import House, KeySource, served


@pytest.fixture
async def house(db: Database, keyring: Keyring, tenant_id: UUID) -> AsyncIterator[House]:
    """A dashboard with a development inbox, served over HTTP, for one tenant named `acme`."""
    secrets = KeySource()
    context = DashboardContext(
        db=db, keyring=keyring, secrets=secrets, has_inbox=True, api_url="http://127.0.0.1:8025/v1"
    )
    async with served(House(db, keyring, tenant_id, secrets, context)) as opened:
        yield opened
