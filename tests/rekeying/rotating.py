"""Rotations of an index key for tests: the operator's command, and where it stands."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from email_gateway.rekeying.index_rotation import IndexRotation
from email_gateway.rekeying.walking import Pace
from email_gateway.store.data_keys import list_index_keys
from email_gateway.store.database import Database
from tests.rekeying.process import Process

A_DAY_AGO = "UPDATE crypto_key SET activated_at = now() - interval '24 hours 1 second' WHERE state = 'active'"


async def command_of(db: Database, tenant_id: UUID, say: Callable[[str], None] = lambda _: None) -> IndexRotation:
    """The command, as a new process of the operator's."""
    keyring = (await Process.start(db)).keyring
    return IndexRotation(db, keyring, tenant_id, "operator", say, lambda _: None, Pace(0), timedelta(seconds=10))


async def states(db: Database, tenant_id: UUID) -> list[str]:
    return [key.state for key in await list_index_keys(db, tenant_id)]


async def eventually(db: Database, tenant_id: UUID, expected: list[str]) -> None:
    """Return once the tenant's index keys are in these states."""
    async with asyncio.timeout(10):
        while await states(db, tenant_id) != expected:  # noqa: ASYNC110 - the rows change in the database
            await asyncio.sleep(0.005)
