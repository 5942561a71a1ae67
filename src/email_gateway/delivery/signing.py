"""The keys that sign for domains: made and sealed, and opened for a message's sender."""

import secrets
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from uuid_utils.compat import uuid7

from email_gateway.delivery.dkim import Signer
from email_gateway.errors import KeyUnavailable, Tampered
from email_gateway.mail.domains import Algorithm
from email_gateway.observe import get_logger
from email_gateway.store.database import Database
from email_gateway.store.domain_facts import DomainFacts
from email_gateway.store.domains import NewKey, SealedSigner, list_signers
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.tenant_keys import TenantKeys

log = get_logger(__name__)

FIELD = "domain.dkim_key"
# RFC 8301 section 3.2 wants 2048; a longer key does not fit into one UDP answer of every resolver.
RSA_BITS = 2048
RSA_EXPONENT = 65537


def make_keys(keys: TenantKeys) -> list[NewKey]:
    """Return a new key of each algorithm, the private halves sealed under the tenant's key; in a thread, it takes 0.1 s."""
    stem = f"eg-{secrets.token_hex(4)}"
    rsa, ed25519 = generate_private_key(RSA_EXPONENT, RSA_BITS), Ed25519PrivateKey.generate()
    return [
        _new_key(
            keys,
            f"{stem}-rsa",
            Algorithm.RSA,
            rsa,
            rsa.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        ),
        _new_key(
            keys,
            f"{stem}-ed25519",
            Algorithm.ED25519,
            ed25519,
            ed25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
        ),
    ]


class SenderKeys:
    """What signs for a sender: opened at its first mail and kept, until a domain or key changes anywhere."""

    def __init__(self, db: Database, keyring: Keyring) -> None:
        self._db = db
        self._keyring = keyring
        self._facts = DomainFacts(db, self._open)

    async def list_signers(self, tenant_id: UUID, sender_domain: str) -> tuple[Signer, ...]:
        """Return the signers of the sender's domain, or of its nearest parent that the tenant has keys for; maybe none.

        Raises KeyUnavailable when a key cannot be opened: a mail that should be signed waits.
        """
        return await self._facts.get(tenant_id, sender_domain)

    async def _open(self, tenant_id: UUID, sender_domain: str) -> tuple[Signer, ...]:
        return tuple(
            [await self._open_one(tenant_id, one) for one in await list_signers(self._db, tenant_id, sender_domain)]
        )

    async def _open_one(self, tenant_id: UUID, sealed: SealedSigner) -> Signer:
        try:
            opened = await self._keyring.open(tenant_id, FIELD, sealed.dkim_key_id, sealed.sealed_private_key)
        except Tampered as error:
            # Without it the mail would fail DMARC, and with it nothing is wrong with the mail: it waits for an operator.
            log.error("dkim_key_unreadable", dkim_key_id=str(sealed.dkim_key_id), error=error)
            raise KeyUnavailable("a domain's signing key does not open: rotate it, or restore it") from None
        key = load_der_private_key(opened, None)
        assert isinstance(key, RSAPrivateKey | Ed25519PrivateKey)  # nothing else is made here
        return Signer(sealed.domain, sealed.selector, key)


def _new_key(
    keys: TenantKeys,
    selector: str,
    algorithm: Algorithm,
    private: RSAPrivateKey | Ed25519PrivateKey,
    public: bytes,
) -> NewKey:
    key_id = uuid7()
    plaintext = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return NewKey(key_id, selector, algorithm, public, keys.seal(FIELD, key_id, plaintext))
