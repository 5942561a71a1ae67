"""The blind index as a whole: copied once, counted by field, deleted in pieces."""

from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from email_gateway.store.blind_index import add_blind_indexes, count_blind_indexes, delete_blind_indexes
from email_gateway.store.database import Database

pytestmark = pytest.mark.anyio

KEY, NEWER_KEY = bytes(16), b"\1" * 16


async def test_entries_are_added_once_counted_and_deleted_by_key_and_field(
    db: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [(uuid7(), KEY, "address", number.to_bytes(16)) for number in range(5)]
    tax_id = (entries[0][0], KEY, "tax_id", bytes(16))
    newer = (entries[0][0], NEWER_KEY, "address", bytes(16))
    assert await add_blind_indexes(db, tenant_id, [*entries, tax_id, newer]) == 7
    assert await add_blind_indexes(db, tenant_id, entries) == 0
    assert await add_blind_indexes(db, tenant_id, []) == 0
    assert await count_blind_indexes(db, tenant_id, KEY, NEWER_KEY) == {
        "address": (5, 1),
        "external_id": (0, 0),
        "tax_id": (1, 0),
    }
    monkeypatch.setattr("email_gateway.store.blind_index.DELETE_BATCH", 3)
    assert [await delete_blind_indexes(db, tenant_id, KEY, "address") for _ in range(3)] == [3, 2, 0]
    assert (await count_blind_indexes(db, tenant_id, KEY, NEWER_KEY))["address"] == (0, 1)
