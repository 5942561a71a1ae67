"""What must hold before a process may seal or open anything: the rules of the first second."""

import os
from dataclasses import dataclass

from email_gateway.errors import KeyUnavailable, Tampered, WrongRootKey
from email_gateway.store import keys as store
from email_gateway.store.database import Database, Queries
from email_gateway.vault.roots import RootKey
from email_gateway.vault.wraps import KeyName, Purpose, make_canary, open_canary, open_wrap

SAMPLE_KEYS = 100
# A VersionId of Secrets Manager has 32 to 64 characters (API reference, SecretVersionIdType).
MIN_VERSION_ID_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class Versions:
    """Which versions of the two secrets a root key was derived from."""

    key_version_id: str
    salt_version_id: str

    def __str__(self) -> str:
        return f"encryption-key version {self.key_version_id}, encryption-salt version {self.salt_version_id}"

    @property
    def can_be_fetched(self) -> bool:
        return min(len(self.key_version_id), len(self.salt_version_id)) >= MIN_VERSION_ID_CHARACTERS


async def prove(db: Database, root: RootKey, versions: Versions) -> None:
    """Show that `root` is the database's active root key, or make it so in a database that never had one.

    Raises WrongRootKey and changes nothing when it is another root, when its canary or a data key
    of the sample does not open, or when `crypto_root` is empty beside sealed rows.
    """
    stored = await _find_or_begin(db, root, versions)
    try:
        open_canary(root, stored.canary)
    except Tampered as refused:
        raise WrongRootKey(f"the canary of root key {root.root_id.hex()} does not open: {refused}") from None
    for key in await store.sample_keys(db, root.root_id, os.urandom(16), SAMPLE_KEYS):
        name = KeyName(key.key_id, key.tenant_id, Purpose(key.purpose))
        try:
            open_wrap({root.root_id: root}, name, key.blob)
        except (KeyUnavailable, Tampered) as refused:
            raise WrongRootKey(
                f"root key {root.root_id.hex()} ({versions}) does not open data key {key.key_id.hex()}: {refused}"
            ) from None
    # A process that was given the same secrets another way, by its environment say, must not wipe
    # out the VersionIds by which this root can be fetched when it is no longer current.
    if versions.can_be_fetched:
        await store.update_root_versions(db, root.root_id, versions.key_version_id, versions.salt_version_id)


async def _find_or_begin(db: Database, root: RootKey, versions: Versions) -> store.StoredRoot:
    roots = await store.list_roots(db)
    if not roots:
        async with db.transaction() as transaction:
            await store.lock_roots(transaction)
            roots = await store.list_roots(transaction) or await _begin(transaction, root, versions)
    for stored in roots:
        if stored.root_id == root.root_id and stored.state == "active":
            return stored
    raise WrongRootKey(_explain(roots, root, versions))


async def _begin(transaction: Queries, root: RootKey, versions: Versions) -> list[store.StoredRoot]:
    """Write the first root and read it back, all under the exclusive lock."""
    if await store.holds_sealed_values(transaction):
        raise WrongRootKey(
            "crypto_root is empty and the database holds sealed rows: restore crypto_root, crypto_key and"
            " crypto_key_wrap from the same backup as the rest; a new root key would leave every row unreadable"
        )
    await store.add_active_root(
        transaction, root.root_id, versions.key_version_id, versions.salt_version_id, make_canary(root)
    )
    roots = await store.list_roots(transaction)
    for stored in roots:
        open_canary(root, stored.canary)
    return roots


def _explain(roots: list[store.StoredRoot], root: RootKey, versions: Versions) -> str:
    known = "; ".join(
        f"{stored.root_id.hex()} {stored.state} ({Versions(stored.key_version_id, stored.salt_version_id)})"
        for stored in roots
    )
    return (
        f"the secrets derive root key {root.root_id.hex()} ({versions}), which is not the active root of this"
        f" database. It knows: {known}. Give back the key and the salt of the active root; nothing was changed"
    )
