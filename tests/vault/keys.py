"""Tenants, root keys and sealed values for tests of the vault."""

from uuid import UUID, uuid4

from email_gateway.store import keys as store
from email_gateway.store.database import Database
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.roots import derive_root
from tests.conftest import KEY, SALT
from tests.given_roots import sourced

FIELD = "message.content"
VERSION_1, VERSION_2, VERSION_3 = (str(number) * 32 for number in (1, 2, 3))
ROOT_1 = derive_root(KEY, SALT)
ROOT_2 = derive_root("the second encryption key of forty characters", SALT)
ROOT_3 = derive_root("the third encryption key of forty characters!", SALT)
FIRST, SECOND, THIRD = (
    sourced(root, version, VERSION_1)
    for root, version in ((ROOT_1, VERSION_1), (ROOT_2, VERSION_2), (ROOT_3, VERSION_3))
)


async def add_tenants(db: Database, count: int) -> list[UUID]:
    """Insert this many tenants and return their ids."""
    tenants = [uuid4() for _ in range(count)]
    await db.execute(
        "INSERT INTO tenant (tenant_id, name) SELECT id, id::text FROM unnest($1::uuid[]) AS fresh (id)", tenants
    )
    return tenants


async def states(db: Database) -> dict[bytes, str]:
    return {root.root_id: root.state for root in await store.list_roots(db)}


async def seal(keyring: Keyring, tenant_id: UUID) -> tuple[UUID, UUID, bytes]:
    row = uuid4()
    return tenant_id, row, (await keyring.tenant(tenant_id)).seal(FIELD, row, b"sealed")


async def opens(keyring: Keyring, value: tuple[UUID, UUID, bytes]) -> bool:
    tenant_id, row, sealed = value
    return await keyring.open(tenant_id, FIELD, row, sealed) == b"sealed"
