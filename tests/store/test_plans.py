"""How a worker's statements are planned before anything is in the tables: a plan that is kept must suit full ones."""

import asyncpg
import pytest

from email_gateway.store.connecting import BY_INDEX
from email_gateway.store.deliveries import SQL

ARGUMENTS = {
    "claim": 8,
    "list_lanes": 1,
    "commit_phases": 6,
    "renew": 7,
    "finish": 17,
    "rescue": 4,
    "release": 5,
    "expire": 2,
}
GROWING = ("message", "delivery", "event")


async def explain(database_url: str, name: str) -> str:
    """Return the plan that a worker's connection keeps of a statement."""
    connection = await asyncpg.connect(database_url, server_settings=BY_INDEX)
    try:
        await connection.execute(f"PREPARE {name} AS {getattr(SQL, name)}")
        rows = await connection.fetch(f"EXPLAIN EXECUTE {name} ({', '.join(['NULL'] * ARGUMENTS[name])})")
        return "\n".join(row[0] for row in rows)
    finally:
        await connection.close()


@pytest.mark.anyio
@pytest.mark.parametrize("name", ARGUMENTS)
async def test_no_plan_reads_a_table_that_grows_from_end_to_end(database_url: str, name: str) -> None:
    plan = await explain(database_url, name)
    for table in GROWING:
        assert f"Seq Scan on {table}" not in plan, plan
    assert "Hash Join" not in plan, plan
    assert "Merge Join" not in plan, plan


@pytest.mark.anyio
async def test_the_other_recipients_of_a_message_are_found_by_its_key(database_url: str) -> None:
    plan = await explain(database_url, "claim")
    _, _, rest = plan.partition("Subquery Scan on other")
    assert "delivery_pkey" in rest.splitlines()[2], plan


def test_every_statement_is_looked_at() -> None:
    assert vars(SQL).keys() == ARGUMENTS.keys()
