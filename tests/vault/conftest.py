"""A vault whose secrets have three versions of the key."""

import pytest

from email_gateway.store.database import Database
from email_gateway.vault.keyring import Keyring
from tests.given_roots import GivenRoots
from tests.vault.keys import FIRST, SECOND, THIRD


@pytest.fixture
def source() -> GivenRoots:
    """Secrets Manager with three versions of the key, the first of them current."""
    return GivenRoots(FIRST, SECOND, THIRD)


@pytest.fixture
async def started(db: Database, source: GivenRoots) -> Keyring:
    return await Keyring.start(db, source)
