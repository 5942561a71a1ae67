"""A process of the fleet in miniature: its own keyring and acceptor, following when the test says so."""

import uuid
from base64 import b64encode
from dataclasses import dataclass, field
from uuid import UUID

from email_gateway.api.intake import draft, seal
from email_gateway.api.schemas import AttachmentInput, Person, SendEmail
from email_gateway.mail.addresses import canonical_address
from email_gateway.mail.tax_ids import parse_tax_id
from email_gateway.store.accepting import Accepted, Acceptor, NewRequest
from email_gateway.store.database import Database
from email_gateway.store.generations import Subject, list_generations
from email_gateway.store.instances import Identity, Standing, record_instance
from email_gateway.store.messages import search_messages
from email_gateway.store.pages import Page
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.roots import derive_root
from tests.conftest import KEY, SALT
from tests.given_roots import only
from tests.marks import MARK

TAX_ID = "529.982.247-25"


def address_of(number: int) -> str:
    return f"{MARK}-{number}@example.net"


def email(number: int, **changes: object) -> SendEmail:
    """A message about one person, to an address of its own."""
    fields: dict[str, object] = {
        "sender": "billing@acme.example",
        "to": address_of(number),
        "subject": f"Invoice {number} {MARK}",
        "text": f"Dear {MARK}",
        "recipient": Person(tax_id=TAX_ID, external_id=f"customer {number}"),
        **changes,
    }
    return SendEmail(**fields)  # type: ignore[arg-type]


def attachment(size: int = 5) -> AttachmentInput:
    return AttachmentInput(filename=f"{MARK}.txt", content=b64encode(bytes(size)).decode())


@dataclass
class Process:
    """Accepts and searches as the api does, with the keys that it has followed."""

    db: Database
    keyring: Keyring
    acceptor: Acceptor
    identity: Identity = field(default_factory=lambda: Identity(uuid.uuid4(), "api", "test-host", 4711, "0.0.0"))

    @classmethod
    async def start(cls, db: Database) -> "Process":
        return cls(db, await Keyring.start(db, only(derive_root(KEY, SALT))), Acceptor(db))

    async def request(self, tenant_id: UUID, number: int, *, key: bytes | None = None, **changes: object) -> NewRequest:
        keys = await self.keyring.tenant(tenant_id)
        message = seal(draft(email(number, **changes)), keys)
        body = b"body %d" % number
        return NewRequest(
            tenant_id,
            (message,),
            response=message.message_id.bytes,
            idempotency=keys.idempotency_keys(key, body) if key else (),
        )

    async def accept(self, tenant_id: UUID, number: int, **given: object) -> Accepted:
        keys = await self.keyring.tenant(tenant_id)
        with keys.uses:
            return await self.acceptor.accept(await self.request(tenant_id, number, **given))  # type: ignore[arg-type]

    async def follow(self) -> None:
        """Take up the keys as they are now, and say so."""
        generation = (await list_generations(self.db))[Subject.KEYS].value
        await self.keyring.reload()
        await self.say(generation)

    async def say(self, generation: int) -> None:
        await record_instance(self.db, self.identity, Standing([], None, 0, generation, {}, {}))

    async def count_about(self, tenant_id: UUID, number: int) -> tuple[int, int, int]:
        """How many messages a search finds by address, by external id and by the tax id that all share."""
        keys = await self.keyring.tenant(tenant_id)
        tax_id = parse_tax_id(TAX_ID)
        terms = [
            ("address", 0, canonical_address(address_of(number))),
            ("external_id", 0, f"customer {number}".encode()),
            ("tax_id", int(tax_id.kind), tax_id.canonical.encode()),
        ]
        counts = [
            len(
                (await search_messages(
                    self.db, tenant_id, name, keys.blind(name, kind, form), keys.index_key_id, Page(1_000)
                ))[0]
            )
            for name, kind, form in terms
        ]  # fmt: skip
        return counts[0], counts[1], counts[2]
