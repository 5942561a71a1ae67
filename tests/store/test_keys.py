"""The walk over data keys: what it costs must not grow with the wraps that are there already."""

import json
from typing import Any

import pytest

from email_gateway.store.database import Database
from email_gateway.store.keys import SQL

pytestmark = pytest.mark.anyio

KEYS = 2_000
OLD_ROOT, NEW_ROOT = b"o" * 16, b"n" * 16
FILL = f"""
    INSERT INTO tenant (tenant_id, name) VALUES (gen_random_uuid(), 'many');
    INSERT INTO crypto_key (key_id, tenant_id, purpose, state)
    SELECT uuid_send(gen_random_uuid()), tenant_id, 1, 'decrypt_only' FROM tenant, generate_series(1, {KEYS});
    INSERT INTO crypto_key_wrap SELECT key_id, 'oooooooooooooooo', decode(repeat('00', 90), 'hex') FROM crypto_key;
    ANALYZE"""


def readings_of_wraps(plan: dict[str, Any]) -> set[str]:
    """Return how a plan reads the wraps: the names of indexes, or how else."""
    below = [readings_of_wraps(each) for each in plan.get("Plans", [])]
    is_wraps = plan.get("Relation Name") == "crypto_key_wrap"
    return set().union({plan.get("Index Name", plan["Node Type"])} if is_wraps else set(), *below)


@pytest.mark.parametrize("name", ["page_keys", "page_unwrapped_keys"])
async def test_a_walk_looks_wraps_up_by_their_key_and_never_by_a_root_that_has_just_come(
    db: Database, name: str
) -> None:
    # Statistics know nothing of a new root, so by it alone the planner expects no rows; in the
    # transaction that adds thousands it would then read all of them again for every key.
    for statement in FILL.split(";"):
        await db.execute(statement)
    explain = f"EXPLAIN (FORMAT JSON) {getattr(SQL, name)}"
    (row,) = await db.fetch(explain, NEW_ROOT, [OLD_ROOT, NEW_ROOT], b"", 1_000)
    plan = json.loads(row[0])[0]["Plan"]
    assert readings_of_wraps(plan) == {"crypto_key_wrap_pkey"}, json.dumps(plan)
