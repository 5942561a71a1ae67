"""A secret source of root keys, for tests that need no Secrets Manager."""

from email_gateway.errors import KeyUnavailable
from email_gateway.vault.root_source import SourcedRoot, Versions
from email_gateway.vault.roots import RootKey


class GivenRoots:
    """A secret source of root keys: the first is current, all can be fetched by their VersionIds."""

    def __init__(self, *sourced: SourcedRoot) -> None:
        self.current = sourced[0]
        self.known = {each.versions: each.root for each in sourced}

    def held(self) -> SourcedRoot:
        return self.current

    async def read_current(self) -> SourcedRoot:
        return self.current

    async def read_staged(self, key_version_id: str) -> SourcedRoot:
        versions = next(known for known in self.known if known.key_version_id == key_version_id)
        return SourcedRoot(self.known[versions], versions)

    async def fetch(self, root_id: bytes, versions: Versions) -> RootKey:
        root = self.known.get(versions)
        if root is None or root.root_id != root_id:
            raise KeyUnavailable(f"these versions do not make root key {root_id.hex()}")
        return root


def sourced(
    root: RootKey, key_version_id: str = "key-version-1", salt_version_id: str = "salt-version-1"
) -> SourcedRoot:
    """A root key as it was read under these VersionIds."""
    return SourcedRoot(root, Versions(key_version_id, salt_version_id))


def only(root: RootKey, key_version_id: str = "key-version-1", salt_version_id: str = "salt-version-1") -> GivenRoots:
    """A source of this root key alone."""
    return GivenRoots(sourced(root, key_version_id, salt_version_id))
