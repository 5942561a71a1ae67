"""Where root keys come from: the two secrets as they are now, or as they were under other VersionIds."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from email_gateway.errors import KeyUnavailable, SecretUnavailable
from email_gateway.secrets import Secret, SecretName, SecretsService
from email_gateway.vault.roots import RootKey, derive_root

# A VersionId of Secrets Manager has 32 to 64 characters (API reference, SecretVersionIdType).
MIN_VERSION_ID_CHARACTERS = 32
READ_TIMEOUT_SECONDS = 3.0


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


@dataclass(frozen=True, slots=True)
class SourcedRoot:
    """A root key and the versions it was derived from just now."""

    root: RootKey
    versions: Versions


class RootSource(Protocol):
    """Derives root keys from secrets; SecretUnavailable when those cannot be read."""

    def held(self) -> SourcedRoot:
        """Return the root of the secrets that are in memory."""

    async def read_current(self) -> SourcedRoot:
        """Return the root of the secrets as they stand in Secrets Manager now, within three seconds."""

    async def read_staged(self, key_version_id: str) -> SourcedRoot:
        """Return the root of this version of the key and the salt of now."""

    async def fetch(self, root_id: bytes, versions: Versions) -> RootKey:
        """Return the root of this name; raises KeyUnavailable when these versions no longer make it."""


class SecretsRoots:
    """The `secrets` room as a source of root keys."""

    def __init__(self, secrets: SecretsService) -> None:
        self._secrets = secrets
        self._derived: SourcedRoot | None = None

    def held(self) -> SourcedRoot:
        key, salt = (self._secrets.get(name) for name in (SecretName.ENCRYPTION_KEY, SecretName.ENCRYPTION_SALT))
        if self._derived is None or self._derived.versions != Versions(key.version_id, salt.version_id):
            self._derived = _derive(key, salt)
        return self._derived

    async def read_current(self) -> SourcedRoot:
        try:
            async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                return _derive(*await self._secrets.read_now(SecretName.ENCRYPTION_KEY, SecretName.ENCRYPTION_SALT))
        except TimeoutError:
            raise SecretUnavailable("the encryption key and salt were not read within three seconds") from None

    async def read_staged(self, key_version_id: str) -> SourcedRoot:
        key, (salt,) = await asyncio.gather(
            self._secrets.fetch_version(SecretName.ENCRYPTION_KEY, key_version_id),
            self._secrets.read_now(SecretName.ENCRYPTION_SALT),
        )
        if key.value == salt.value:
            raise SecretUnavailable(f"version {key_version_id} of the encryption key is the salt")
        return _derive(key, salt)

    async def fetch(self, root_id: bytes, versions: Versions) -> RootKey:
        keys, salts = await asyncio.gather(
            self._candidates(SecretName.ENCRYPTION_KEY, versions.key_version_id),
            self._candidates(SecretName.ENCRYPTION_SALT, versions.salt_version_id),
        )
        # The recorded pair comes first. Where one half was put again with the same value and its old
        # version is gone, what is held now makes the same root; the name says so, nothing is tried.
        for key in keys:
            for salt in salts:
                if key.value != salt.value and (root := derive_root(key.value, salt.value)).root_id == root_id:
                    return root
        raise KeyUnavailable(f"root key {root_id.hex()} cannot be derived from {versions}, nor from what is current")

    async def _candidates(self, name: SecretName, version_id: str) -> list[Secret]:
        held = self._secrets.get(name)
        if held.version_id == version_id:
            return [held]
        try:
            return [await self._secrets.fetch_version(name, version_id, is_former=True), held]
        except SecretUnavailable:
            return [held]


def _derive(key: Secret, salt: Secret) -> SourcedRoot:
    return SourcedRoot(derive_root(key.value, salt.value), Versions(key.version_id, salt.version_id))
