"""What `keys status` tells: roots, versions, states and counts, without a root key."""

from uuid import UUID

import pytest

from email_gateway.store.database import Database
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.roots import derive_root
from email_gateway.vault.status import read_key_status
from tests.conftest import KEY, SALT
from tests.vault.keys import add_tenants

ROOT_ID = derive_root(KEY, SALT).root_id

pytestmark = pytest.mark.anyio


async def test_status_of_a_database_without_keys_is_empty(db: Database) -> None:
    status = await read_key_status(db)
    assert (status.roots, status.keys, status.live_keys, status.instances) == ((), {}, 0, ())


async def test_status_counts_roots_keys_wraps_and_processes(db: Database, keyring: Keyring, tenant_id: UUID) -> None:
    for tenant in [tenant_id, *await add_tenants(db, 2)]:
        await keyring.tenant(tenant)
    await db.execute("UPDATE crypto_key SET state = 'destroyed' WHERE tenant_id = $1", tenant_id)
    status = await read_key_status(db)
    (root,) = status.roots
    assert (root.root.root_id, root.root.state, root.wraps) == (ROOT_ID, "active", 4)
    assert (root.root.key_version_id, root.root.salt_version_id) == ("key-version-1", "salt-version-1")
    assert status.keys == {(1, "active"): 2, (1, "destroyed"): 1, (2, "active"): 2, (2, "destroyed"): 1}
    assert status.live_keys == 4
    assert status.instances == ()
