"""How a root key goes: late, alone, and only when everything opens without it."""

from uuid import UUID

import pytest

from email_gateway.errors import Conflict, DatabaseRefused, Tampered
from email_gateway.store import keys as store
from email_gateway.store.audit import list_audit
from email_gateway.store.database import Database
from email_gateway.vault.adoption import adopt
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.retirement import Retirement, retire
from tests.given_roots import GivenRoots, only
from tests.vault.keys import FIRST, ROOT_1, ROOT_2, SECOND, THIRD, VERSION_1, VERSION_2, opens, seal, states

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rotated(db: Database, started: Keyring, source: GivenRoots, tenant_id: UUID) -> Keyring:
    """A fleet that left its first root eight days ago."""
    await started.tenant(tenant_id)
    source.current = SECOND
    await adopt(db, started.roots)
    await db.execute("UPDATE crypto_root SET retiring_at = now() - interval '8 days' WHERE state = 'retiring'")
    return started


async def retired(db: Database, keyring: Keyring) -> list[Retirement]:
    return await retire(db, keyring.roots, actor="test", progress=lambda _: None)


async def add_instance(db: Database, active_root: bytes | None, *, silent_for: str = "0 s") -> None:
    await db.execute(
        "INSERT INTO crypto_instance (instance, roots_held, release, active_root, seen_at, process, host, pid)"
        " VALUES (gen_random_uuid(), '{}', '1', $1, now() - $2::text::interval, 'worker', 'node-7', 42)",
        active_root,
        silent_for,
    )


async def test_an_old_root_goes_with_its_wraps_and_its_name_stays(
    db: Database, rotated: Keyring, tenant_id: UUID
) -> None:
    value = await seal(rotated, tenant_id)
    await add_instance(db, ROOT_2.root_id)
    assert await retired(db, rotated) == [Retirement(ROOT_1.root_id, wraps=2)]
    assert await states(db) == {ROOT_1.root_id: "retired", ROOT_2.root_id: "active"}
    assert await store.count_wraps(db) == {ROOT_2.root_id: 2}
    assert await opens(await Keyring.start(db, only(ROOT_2, VERSION_2, VERSION_1)), value)
    assert (await list_audit(db))[0].action == "root.retired"
    assert await retired(db, rotated) == []


async def test_a_root_stays_for_seven_days(db: Database, rotated: Keyring) -> None:
    await db.execute("UPDATE crypto_root SET retiring_at = now() - interval '6 days 23 hours' WHERE state = 'retiring'")
    (kept,) = await retired(db, rotated)
    assert kept == Retirement(ROOT_1.root_id, kept_because="retiring for 6 of 7 days")
    assert len(await store.count_wraps(db)) == 2


@pytest.mark.parametrize("holds", [None, ROOT_1.root_id])
async def test_nothing_goes_while_a_process_lacks_the_active_root(
    db: Database, rotated: Keyring, holds: bytes | None
) -> None:
    await add_instance(db, holds, silent_for="9 minutes")
    with pytest.raises(Conflict, match="worker 42 on node-7"):
        await retired(db, rotated)
    await db.execute("UPDATE crypto_instance SET seen_at = now() - interval '11 minutes'")
    assert (await retired(db, rotated))[0].wraps == 2


async def test_nothing_goes_when_a_key_does_not_open_under_the_active_root(db: Database, rotated: Keyring) -> None:
    await db.execute(
        "UPDATE crypto_key_wrap SET blob = set_byte(blob, 60, get_byte(blob, 60) # 1) WHERE parent_id = $1",
        ROOT_2.root_id,
    )
    with pytest.raises(Tampered):
        await retired(db, rotated)
    assert (await states(db))[ROOT_1.root_id] == "retiring"


async def test_a_key_that_lacks_a_wrap_gets_it_before_the_root_goes(db: Database, rotated: Keyring) -> None:
    await db.execute("DELETE FROM crypto_key_wrap WHERE parent_id = $1", ROOT_2.root_id)
    assert (await retired(db, rotated))[0].wraps == 2
    assert await store.count_wraps(db) == {ROOT_2.root_id: 2}


async def test_the_database_itself_keeps_what_is_in_force_or_needed(db: Database, rotated: Keyring) -> None:
    for root_id in (ROOT_2.root_id, bytes(16)):
        with pytest.raises(DatabaseRefused, match="23001"):
            await store.retire_root(db, root_id)
    await db.execute("DELETE FROM crypto_key_wrap WHERE parent_id = $1", ROOT_2.root_id)
    with pytest.raises(DatabaseRefused, match="23001"):
        await store.retire_root(db, ROOT_1.root_id)


async def test_without_an_active_root_nothing_goes(db: Database, rotated: Keyring) -> None:
    await db.execute("UPDATE crypto_root SET state = 'retiring', retiring_at = now() - interval '9 days'")
    with pytest.raises(Conflict, match="no active root"):
        await retired(db, rotated)


async def test_a_retired_root_can_come_back(
    db: Database, rotated: Keyring, source: GivenRoots, tenant_id: UUID
) -> None:
    value = await seal(rotated, tenant_id)
    await retired(db, rotated)
    source.current = FIRST
    await adopt(db, rotated.roots)
    assert await states(db) == {ROOT_1.root_id: "active", ROOT_2.root_id: "retiring"}
    assert await opens(await Keyring.start(db, only(ROOT_1, VERSION_1, VERSION_1)), value)
    assert THIRD.root.root_id not in await states(db)
