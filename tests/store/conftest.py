"""What the store's tests may ask for beyond the rest: roles of their own, a network that can go silent."""

from collections.abc import AsyncIterator

import pytest

from email_gateway.store.database import Database
from tests.plugins.marks import Watch
from tests.store.network import Network
from tests.store.roles import Role


@pytest.fixture
async def role(db: Database, database_url: str, watch: Watch) -> AsyncIterator[Role]:
    """A login of this test's own."""
    role = Role(db, database_url, watch)
    await role.create()
    yield role
    await role.drop()


@pytest.fixture
async def other_role(db: Database, database_url: str, watch: Watch) -> AsyncIterator[Role]:
    """A second login of this test's own."""
    role = Role(db, database_url, watch)
    await role.create()
    yield role
    await role.drop()


@pytest.fixture
async def network(database_url: str) -> AsyncIterator[Network]:
    """A network between this test and PostgreSQL, of its own."""
    network = Network(database_url)
    await network.open()
    yield network
    await network.close()
