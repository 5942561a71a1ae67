"""What must hold before a process may seal or open anything: the rules of the first second."""

import os

from email_gateway.errors import (
    DatabaseUnavailable,
    GatewayError,
    KeyUnavailable,
    SecretUnavailable,
    Tampered,
    WrongRootKey,
)
from email_gateway.observe import get_logger
from email_gateway.store import keys as store
from email_gateway.store.database import Database, Queries
from email_gateway.vault.adoption import adopt
from email_gateway.vault.held_roots import HeldRoots
from email_gateway.vault.root_source import RootSource, SourcedRoot, Versions
from email_gateway.vault.roots import RootKey
from email_gateway.vault.wraps import KeyName, Purpose, make_canary, open_canary, open_wrap

log = get_logger(__name__)

SAMPLE_KEYS = 100
NEXT_STEP = (
    "Give back the key and the salt of the active root (restore-secret, or put-secret-value with their old"
    " values), or run `email-gateway keys rescue` with those values from your safe; nothing was changed"
)


async def open_roots(db: Database, source: RootSource) -> HeldRoots:
    """Return the roots this process starts with, the active one among them, proven against the database.

    A database that never had a root begins with the one of the secrets. When the secrets make
    another root than the active one, that one is fetched by its VersionIds, proven, and the new one
    adopted; a failed adoption leaves the proven one to serve. Raises WrongRootKey, naming root ids
    and VersionIds, when the active root is out of reach, when a canary or a data key of the sample
    does not open, or when `crypto_root` is empty beside sealed rows.
    """
    sourced = source.held()
    held = HeldRoots(source, [sourced.root])
    roots = await store.list_roots(db) or await _begin(db, sourced)
    active = next((stored for stored in roots if stored.state == "active"), None)
    if active is not None and active.root_id == sourced.root.root_id:
        await prove_root(db, sourced.root, active)
        if sourced.versions.can_be_fetched:
            versions = sourced.versions
            await store.update_root_versions(db, active.root_id, versions.key_version_id, versions.salt_version_id)
        return held
    await _bridge(db, held, roots, sourced)
    return held


async def _bridge(db: Database, held: HeldRoots, roots: list[store.StoredRoot], sourced: SourcedRoot) -> None:
    """Go from the active root to the one of the secrets; without the first, only if the second opens all."""
    active = next((stored for stored in roots if stored.state == "active"), None)
    is_proven = False
    try:
        if active is not None:
            await prove_root(db, await held.obtain(active), active)
            is_proven = True
    except (KeyUnavailable, Tampered) as error:
        # Only a root that the database knows may go on without it: it was given its wraps when it came.
        if all(stored.root_id != sourced.root.root_id for stored in roots):
            raise WrongRootKey(_explain(roots, sourced, error)) from None
        log.warning("active_root_out_of_reach", error=error)
    try:
        await adopt(db, held)
    except DatabaseUnavailable:
        if not is_proven:
            raise
        log.warning("root_not_adopted_yet")
    except (KeyUnavailable, SecretUnavailable, Tampered, WrongRootKey) as error:
        if not is_proven:
            raise WrongRootKey(_explain(roots, sourced, error)) from None
        log.error("root_not_adopted", error=error)


async def prove_root(db: Queries, root: RootKey, stored: store.StoredRoot) -> None:
    """Raise WrongRootKey unless this root opens its canary and a sample of the data keys; changes nothing."""
    try:
        open_canary(root, stored.canary)
    except Tampered as refused:
        raise WrongRootKey(f"the canary of root key {root.root_id.hex()} does not open: {refused}") from None
    for key in await store.sample_keys(db, root.root_id, os.urandom(16), SAMPLE_KEYS):
        name = KeyName(key.key_id, key.tenant_id, Purpose(key.purpose))
        try:
            open_wrap({root.root_id: root}, name, key.blob)
        except (KeyUnavailable, Tampered) as refused:
            versions = Versions(stored.key_version_id, stored.salt_version_id)
            raise WrongRootKey(
                f"root key {root.root_id.hex()} ({versions}) does not open data key {key.key_id.hex()}: {refused}"
            ) from None


async def _begin(db: Database, sourced: SourcedRoot) -> list[store.StoredRoot]:
    """Write the first root and read it back, all under the exclusive locks."""
    root, versions = sourced.root, sourced.versions
    async with db.transaction() as transaction:
        await store.lock_adoption(transaction)
        await store.lock_roots(transaction)
        if roots := await store.list_roots(transaction):  # another process was quicker
            return roots
        if await store.holds_sealed_values(transaction):
            raise WrongRootKey(
                "crypto_root is empty and the database holds sealed rows: restore crypto_root, crypto_key and"
                " crypto_key_wrap from the same backup as the rest; a new root key would leave every row unreadable"
            )
        await store.put_root(
            transaction, root.root_id, versions.key_version_id, versions.salt_version_id, make_canary(root)
        )
        await store.activate_root(transaction, root.root_id)
        roots = await store.list_roots(transaction)
        for stored in roots:
            open_canary(root, stored.canary)
        return roots


def _explain(roots: list[store.StoredRoot], sourced: SourcedRoot, error: GatewayError) -> str:
    known = "; ".join(
        f"{stored.root_id.hex()} {stored.state} ({Versions(stored.key_version_id, stored.salt_version_id)})"
        for stored in roots
    )
    return (
        f"the secrets derive root key {sourced.root.root_id.hex()} ({sourced.versions}), which is not the active"
        f" root of this database and cannot be adopted ({error}). It knows: {known}. {NEXT_STEP}"
    )
