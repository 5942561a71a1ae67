"""How a root key comes into force: everything wrapped and read back first, or nothing changed."""

import asyncio
from dataclasses import replace
from uuid import UUID

import pytest

from email_gateway.errors import Conflict, KeyUnavailable, SecretUnavailable, Tampered, WrongRootKey
from email_gateway.store import keys as store
from email_gateway.store.database import Database
from email_gateway.store.generations import list_generations
from email_gateway.vault import adoption
from email_gateway.vault.adoption import adopt, rescue, stage, verify
from email_gateway.vault.held_roots import HeldRoots
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.root_source import SourcedRoot
from email_gateway.vault.roots import RootKey
from tests.given_roots import GivenRoots, only, sourced
from tests.vault.keys import (
    FIRST,
    ROOT_1,
    ROOT_2,
    ROOT_3,
    SECOND,
    THIRD,
    VERSION_1,
    VERSION_2,
    VERSION_3,
    add_tenants,
    opens,
    seal,
    states,
)

pytestmark = pytest.mark.anyio


async def test_adoption_wraps_every_key_and_takes_over(db: Database, started: Keyring, source: GivenRoots) -> None:
    values = [await seal(started, tenant) for tenant in await add_tenants(db, 3)]
    source.current = SECOND
    done = await adopt(db, started.roots)
    assert (done.root_id, done.state, done.data_keys) == (ROOT_2.root_id, "active", 6)
    assert await states(db) == {ROOT_1.root_id: "retiring", ROOT_2.root_id: "active"}
    assert await store.count_wraps(db) == {ROOT_1.root_id: 6, ROOT_2.root_id: 6}
    (row,) = [root for root in await store.list_roots(db) if root.state == "active"]
    assert (row.key_version_id, row.salt_version_id) == (VERSION_2, VERSION_1)
    for value in values:
        assert await opens(await Keyring.start(db, only(ROOT_2, VERSION_2, VERSION_1)), value)


async def test_more_keys_than_a_page_are_all_wrapped(
    db: Database, started: Keyring, source: GivenRoots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption, "PAGE", 3)
    for tenant in await add_tenants(db, 5):
        await started.tenant(tenant)
    source.current, seen = SECOND, list[int]()
    assert (await adopt(db, started.roots, seen.append)).data_keys == 10
    assert seen == [3, 6, 9, 10]
    assert (await store.count_wraps(db))[ROOT_2.root_id] == 10


async def test_every_process_is_told_of_a_new_root(db: Database, started: Keyring, source: GivenRoots) -> None:
    before = (await list_generations(db))["keys"].value
    source.current = SECOND
    await adopt(db, started.roots)
    assert (await list_generations(db))["keys"].value == before + 1


async def test_adopting_the_active_root_changes_nothing_but_its_versions(
    db: Database, started: Keyring, source: GivenRoots
) -> None:
    source.current = sourced(ROOT_1, VERSION_3, VERSION_1)
    await adopt(db, started.roots)
    (root,) = await store.list_roots(db)
    assert (root.root_id, root.state, root.key_version_id) == (ROOT_1.root_id, "active", VERSION_3)


async def test_a_process_whose_secrets_are_old_does_not_bring_its_root_back(
    db: Database, started: Keyring, source: GivenRoots
) -> None:
    source.current = SECOND
    await adopt(db, started.roots)
    late = HeldRoots(source, [ROOT_1])
    assert (await adopt(db, late)).root_id == ROOT_2.root_id
    assert (await states(db))[ROOT_1.root_id] == "retiring"


async def test_processes_that_adopt_together_agree(db: Database, started: Keyring, source: GivenRoots) -> None:
    for tenant in await add_tenants(db, 20):
        await started.tenant(tenant)
    source.current = SECOND
    await asyncio.gather(*(adopt(db, HeldRoots(source, [ROOT_1])) for _ in range(4)))
    assert await states(db) == {ROOT_1.root_id: "retiring", ROOT_2.root_id: "active"}
    assert await store.count_wraps(db) == {ROOT_1.root_id: 40, ROOT_2.root_id: 40}


async def test_keys_made_while_a_root_is_adopted_are_wrapped_too(
    db: Database, started: Keyring, source: GivenRoots
) -> None:
    tenants = await add_tenants(db, 60)
    source.current = SECOND
    making = [asyncio.create_task(seal(started, tenant)) for tenant in tenants]
    await asyncio.gather(adopt(db, HeldRoots(source, [ROOT_1])), *making)
    newcomer = await Keyring.start(db, only(ROOT_2, VERSION_2, VERSION_1))
    for made in making:
        assert await opens(newcomer, made.result())


async def test_a_rollback_adopts_the_old_root_again_with_keys_made_since(
    db: Database, started: Keyring, source: GivenRoots
) -> None:
    old, new = await add_tenants(db, 2)
    values = [await seal(started, old)]
    source.current = SECOND
    await adopt(db, started.roots)
    values.append(await seal(started, new))
    await db.execute("DELETE FROM crypto_key_wrap WHERE parent_id = $1 AND key_id IN"
                     " (SELECT key_id FROM crypto_key WHERE tenant_id = $2)", ROOT_1.root_id, new)  # fmt: skip
    source.current = FIRST
    await adopt(db, started.roots)
    assert await states(db) == {ROOT_1.root_id: "active", ROOT_2.root_id: "retiring"}
    for value in values:
        assert await opens(await Keyring.start(db, only(ROOT_1, VERSION_1, VERSION_1)), value)


async def test_a_root_that_is_not_held_is_fetched_by_its_versions(
    db: Database, started: Keyring, source: GivenRoots, tenant_id: UUID
) -> None:
    value = await seal(started, tenant_id)
    source.current = THIRD  # and the second was never seen by anyone
    fresh = await Keyring.start(db, source)
    assert set(fresh.roots.ids) == {ROOT_1.root_id, ROOT_3.root_id}
    assert await opens(fresh, value)


async def test_a_key_that_no_root_in_reach_opens_stops_the_adoption(
    db: Database, started: Keyring, source: GivenRoots, tenant_id: UUID
) -> None:
    keys = await started.tenant(tenant_id)
    lost = GivenRoots(SECOND)
    with pytest.raises(KeyUnavailable, match="no root key in reach opens data key") as refused:
        await adopt(db, HeldRoots(lost))
    assert any(key_id.hex() in str(refused.value) for key_id in (keys.field_key.key_id, keys.index_key_id))
    assert await states(db) == {ROOT_1.root_id: "active"}
    assert await store.count_wraps(db) == {ROOT_1.root_id: 2}


async def test_a_changed_wrap_stops_the_adoption(
    db: Database, started: Keyring, source: GivenRoots, tenant_id: UUID
) -> None:
    await started.tenant(tenant_id)
    await db.execute("UPDATE crypto_key_wrap SET blob = set_byte(blob, 60, get_byte(blob, 60) # 1)")
    source.current = SECOND
    with pytest.raises(Tampered):
        await adopt(db, started.roots)
    assert await states(db) == {ROOT_1.root_id: "active"}


async def test_a_changed_canary_stops_the_return_of_its_root(
    db: Database, started: Keyring, source: GivenRoots
) -> None:
    source.current = SECOND
    await adopt(db, started.roots)
    await db.execute("UPDATE crypto_root SET canary = set_byte(canary, 50, 0) WHERE state = 'retiring'")
    source.current = FIRST
    with pytest.raises(WrongRootKey, match="canary"):
        await adopt(db, started.roots)
    assert (await states(db))[ROOT_2.root_id] == "active"


async def test_secrets_that_cannot_be_read_change_nothing(
    db: Database, started: Keyring, source: GivenRoots, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> SourcedRoot:
        raise SecretUnavailable("the secret encryption-key cannot be read now")

    monkeypatch.setattr(source, "read_current", fail)
    with pytest.raises(SecretUnavailable):
        await adopt(db, started.roots)
    assert await states(db) == {ROOT_1.root_id: "active"}


async def test_nothing_is_adopted_where_nothing_was_begun(db: Database, source: GivenRoots) -> None:
    with pytest.raises(WrongRootKey, match="crypto_root is empty"):
        await adopt(db, HeldRoots(source))


async def test_staging_wraps_and_changes_no_active_root(
    db: Database, started: Keyring, source: GivenRoots, tenant_id: UUID
) -> None:
    value = await seal(started, tenant_id)
    for _ in range(2):
        done = await stage(db, started.roots, VERSION_2)
        assert (done.root_id, done.state, done.data_keys) == (ROOT_2.root_id, "pending", 2)
    assert await states(db) == {ROOT_1.root_id: "active", ROOT_2.root_id: "pending"}
    assert await opens(await Keyring.start(db, source), value)
    source.current = SECOND
    await adopt(db, started.roots)
    assert await states(db) == {ROOT_1.root_id: "retiring", ROOT_2.root_id: "active"}


async def test_staging_what_is_active_says_so(db: Database, started: Keyring) -> None:
    assert (await stage(db, started.roots, VERSION_1)).state == "active"


async def test_a_second_rotation_within_the_hour_is_refused_and_later_takes_over(
    db: Database, started: Keyring
) -> None:
    await stage(db, started.roots, VERSION_2)
    with pytest.raises(Conflict, match="another rotation is pending"):
        await stage(db, started.roots, VERSION_3)
    await db.execute("UPDATE crypto_root SET created_at = now() - interval '61 minutes' WHERE state = 'pending'")
    await stage(db, started.roots, VERSION_3)
    assert await states(db) == {ROOT_1.root_id: "active", ROOT_2.root_id: "retiring", ROOT_3.root_id: "pending"}


async def test_a_manual_change_is_adopted_beside_a_pending_root(
    db: Database, started: Keyring, source: GivenRoots
) -> None:
    await stage(db, started.roots, VERSION_2)
    source.current = THIRD
    await adopt(db, started.roots)
    assert await states(db) == {ROOT_1.root_id: "retiring", ROOT_2.root_id: "pending", ROOT_3.root_id: "active"}


async def test_verifying_opens_every_key_and_adds_what_was_made_since(
    db: Database, started: Keyring, source: GivenRoots, tenant_id: UUID
) -> None:
    await stage(db, started.roots, VERSION_2)
    await (await Keyring.start(db, only(ROOT_1, VERSION_1, VERSION_1))).tenant(tenant_id)  # it knows no second root
    assert (await store.count_wraps(db)) == {ROOT_1.root_id: 2}
    done = await verify(db, HeldRoots(source, [ROOT_1]), ROOT_2.root_id)
    assert (done.state, done.data_keys) == ("pending", 2)
    assert (await store.count_wraps(db))[ROOT_2.root_id] == 2
    assert all(
        (root.verified_at is not None) == (root.root_id == ROOT_2.root_id) for root in await store.list_roots(db)
    )


async def test_verifying_names_a_key_that_does_not_open(db: Database, started: Keyring, tenant_id: UUID) -> None:
    await started.tenant(tenant_id)
    await db.execute("UPDATE crypto_key_wrap SET blob = set_byte(blob, 60, get_byte(blob, 60) # 1)")
    with pytest.raises(Tampered):
        await verify(db, started.roots, ROOT_1.root_id)


async def test_verifying_an_unknown_root_is_refused(db: Database, started: Keyring) -> None:
    with pytest.raises(KeyUnavailable, match="knows no root key"):
        await verify(db, started.roots, bytes(16))


async def test_a_root_out_of_a_safe_rescues_a_database_whose_secrets_are_lost(
    db: Database, started: Keyring, tenant_id: UUID
) -> None:
    value = await seal(started, tenant_id)
    recreated = only(ROOT_3, VERSION_3, VERSION_3)
    with pytest.raises(WrongRootKey, match="keys rescue"):
        await Keyring.start(db, recreated)
    assert (await rescue(db, recreated, ROOT_1)).data_keys == 2
    assert await opens(await Keyring.start(db, recreated), value)


async def test_a_rescue_with_a_root_that_was_never_here_is_refused(db: Database, started: Keyring) -> None:
    with pytest.raises(WrongRootKey, match="does not know") as refused:
        await rescue(db, only(ROOT_3, VERSION_3, VERSION_3), ROOT_2)
    assert ROOT_1.root_id.hex() in str(refused.value)


async def test_a_start_whose_adoption_fails_serves_with_the_root_in_force(
    db: Database, started: Keyring, source: GivenRoots, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = await seal(started, tenant_id)

    async def fail() -> SourcedRoot:
        raise SecretUnavailable("the secret encryption-key cannot be read now")

    source.current = SECOND
    monkeypatch.setattr(source, "read_current", fail)
    fresh = await Keyring.start(db, source)
    assert await states(db) == {ROOT_1.root_id: "active"}
    assert await opens(fresh, value)


async def test_a_fetched_root_that_is_another_one_is_refused(
    db: Database, started: Keyring, source: GivenRoots
) -> None:
    (stored,) = await store.list_roots(db)
    held = HeldRoots(source)
    with pytest.raises(KeyUnavailable):
        await held.obtain(replace(stored, root_id=ROOT_2.root_id))
    with pytest.raises(KeyUnavailable, match="a moment ago"):
        await held.obtain(replace(stored, root_id=ROOT_2.root_id))
    assert isinstance(await held.obtain(stored), RootKey)


async def test_a_root_whose_canary_was_changed_does_not_hide_another_that_opens_the_key(
    db: Database, started: Keyring, source: GivenRoots, tenant_id: UUID
) -> None:
    value = await seal(started, tenant_id)
    source.current = SECOND
    await adopt(db, started.roots)
    await db.execute("UPDATE crypto_root SET canary = set_byte(canary, 50, 0) WHERE state = 'active'")
    assert await opens(Keyring(db, HeldRoots(source)), value)
