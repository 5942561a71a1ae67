"""Tenants for tests of the vault."""

from uuid import UUID, uuid4

from email_gateway.store.database import Database


async def add_tenants(db: Database, count: int) -> list[UUID]:
    """Insert this many tenants and return their ids."""
    tenants = [uuid4() for _ in range(count)]
    await db.execute(
        "INSERT INTO tenant (tenant_id, name) SELECT id, id::text FROM unnest($1::uuid[]) AS fresh (id)", tenants
    )
    return tenants
