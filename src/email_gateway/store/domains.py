"""Sending domains and their keys. Each change of one is told to every process: what they keep in memory is read again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from email_gateway.errors import Conflict, NotFound
from email_gateway.mail.domains import Algorithm, DomainState, KeyState, lineage_of
from email_gateway.store.audit import add_audit
from email_gateway.store.database import Database, Queries, Record
from email_gateway.store.pages import Page
from email_gateway.store.queries import load

SQL = load("domains")

# Making a key takes a tenth of a second of a processor; nobody sends from so many domains.
MAX_DOMAINS = 500
# What a key has signed is checked when it arrives, which may take as long as the longest queue.
OVERLAP = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class DkimKey:
    """A key without its private half."""

    dkim_key_id: UUID
    selector: str
    algorithm: Algorithm
    public_key: bytes
    state: KeyState
    created_at: datetime
    activated_at: datetime | None
    retiring_at: datetime | None
    retired_at: datetime | None

    @property
    def is_published(self) -> bool:
        """Whether its record must stand in the DNS now."""
        return self.state is not KeyState.RETIRED

    @property
    def removable_at(self) -> datetime | None:
        """When its record may be removed from the DNS, where that is known."""
        return self.retired_at or (self.retiring_at and self.retiring_at + OVERLAP)


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain that a tenant sends from, with its keys, the oldest first."""

    tenant_id: UUID
    domain_id: UUID
    name: str
    state: DomainState
    created_at: datetime
    checked_at: datetime | None
    verified_at: datetime | None
    keys: tuple[DkimKey, ...] = ()


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to be stored; its private half is sealed already."""

    dkim_key_id: UUID
    selector: str
    algorithm: Algorithm
    public_key: bytes
    sealed_private_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SealedSigner:
    """What signs for a domain now: the private half is still sealed."""

    domain: str
    dkim_key_id: UUID
    selector: str
    algorithm: Algorithm
    sealed_private_key: bytes = field(repr=False)


async def require_room(db: Queries, tenant_id: UUID) -> None:
    """Raise NotFound unless there is this tenant, and Conflict when it has as many domains as it may."""
    row = await db.fetch_one(SQL.count_domains, tenant_id)
    if row is None:
        raise NotFound("no such tenant")
    if row["count"] >= MAX_DOMAINS:
        raise Conflict(f"this tenant has {MAX_DOMAINS} domains already: remove those it no longer sends from")


async def add_domain(
    db: Database, tenant_id: UUID, domain_id: UUID, name: str, keys: Sequence[NewKey], *, actor: str
) -> None:
    """Add a domain with its first keys; raises Conflict when the tenant has it, or has too many; NotFound without a tenant."""
    async with db.transaction() as transaction:
        await require_room(transaction, tenant_id)
        if await transaction.fetch_one(SQL.add_domain, tenant_id, domain_id, name) is None:
            raise Conflict("this tenant has this domain already")
        await _add_keys(transaction, tenant_id, domain_id, keys)
        await _tell(transaction, actor, "domain.added", tenant_id, domain_id)


async def add_keys(db: Database, domain: Domain, keys: Sequence[NewKey], *, actor: str) -> None:
    """Add the keys that are to take over; raises Conflict while others wait for that, NotFound for a domain that is gone."""
    async with db.transaction() as transaction:
        if await transaction.fetch_one(SQL.lock_domain, domain.tenant_id, domain.domain_id) is None:
            raise NotFound("no such domain")
        await _add_keys(transaction, domain.tenant_id, domain.domain_id, keys)
        await _tell(transaction, actor, "domain.rotated", domain.tenant_id, domain.domain_id)


async def get_domain(db: Queries, tenant_id: UUID, domain_id: UUID) -> Domain:
    """Return a tenant's domain; raises NotFound, also for another tenant's."""
    return await _one(db, await db.fetch(SQL.find_domain, tenant_id, domain_id))


async def get_domain_by_id(db: Queries, domain_id: UUID) -> Domain:
    """Return anybody's domain, for an operator; raises NotFound."""
    return await _one(db, await db.fetch(SQL.find_domain_by_id, domain_id))


async def find_domain_by_name(db: Queries, tenant_id: UUID, name: str) -> Domain | None:
    """Return a tenant's domain by its name, or None."""
    found = await _complete(db, await db.fetch(SQL.find_domain_by_name, tenant_id, name))
    return found[0] if found else None


async def list_domains(db: Queries, tenant_id: UUID | None, page: Page) -> tuple[list[Domain], bool]:
    """Return a page of a tenant's domains, or of everybody's, newest first, and whether there are more."""
    if page.before is not None:
        rows = await db.fetch(SQL.list_domains_before, tenant_id, page.before, page.limit + 1)
    else:
        rows = await db.fetch(SQL.list_domains_after, tenant_id, page.after, page.limit + 1)
    kept = rows[: page.limit]
    return await _complete(db, kept[::-1] if page.before is not None else kept), len(rows) > page.limit


async def list_proven_domains(db: Queries, limit: int) -> list[Domain]:
    """Return domains of any tenant that are or were verified, so many of them by chance."""
    return await _complete(db, await db.fetch(SQL.list_proven_domains, limit))


async def settle_verification(
    db: Database, domain: Domain, state: DomainState, shown: Sequence[UUID], *, actor: str
) -> None:
    """Write down what the DNS showed: those of `shown` that were pending sign from now on, and relieve the older ones."""
    async with db.transaction() as transaction:
        if await transaction.fetch_one(SQL.lock_domain, domain.tenant_id, domain.domain_id) is None:
            raise NotFound("no such domain")
        await transaction.execute(SQL.retire_relieved, domain.tenant_id, domain.domain_id, list(shown))
        begun = await transaction.fetch(SQL.activate_keys, domain.tenant_id, domain.domain_id, list(shown))
        await transaction.execute(SQL.set_state, domain.tenant_id, domain.domain_id, state)
        if begun or state is not domain.state:
            await _tell(transaction, actor, f"domain.{state}", domain.tenant_id, domain.domain_id)


async def remove_domain(db: Database, tenant_id: UUID, domain_id: UUID, *, actor: str) -> None:
    """Remove a domain and destroy its keys: mail from it leaves unsigned from now on; raises NotFound."""
    async with db.transaction() as transaction:
        if await transaction.fetch_one(SQL.remove_domain, tenant_id, domain_id) is None:
            raise NotFound("no such domain")
        await _tell(transaction, actor, "domain.removed", tenant_id, domain_id)


async def retire_keys(db: Queries, *, after: timedelta = OVERLAP) -> int:
    """End the keys that stopped signing so long ago, and destroy their private halves; return their number."""
    return len(await db.fetch(SQL.retire_keys, after))


async def list_signers(db: Queries, tenant_id: UUID, sender_domain: str) -> list[SealedSigner]:
    """Return the active keys of the sender's domain, or of its nearest parent that has some; RSA first."""
    rows = await db.fetch(SQL.list_signers, tenant_id, lineage_of(sender_domain))
    signers = [SealedSigner(row[0], row[1], row[2], Algorithm(row[3]), row[4]) for row in rows]
    return [signer for signer in signers if signer.domain == signers[0].domain]


async def is_verified(db: Queries, tenant_id: UUID, sender_domain: str) -> bool:
    """Tell whether the tenant has proven the sender's domain, or a parent of it."""
    return await db.fetch_one(SQL.find_verified, tenant_id, lineage_of(sender_domain)) is not None


async def get_generation(db: Queries) -> int:
    """Return the number that grows with every change of a domain or a key."""
    row = await db.fetch_one(SQL.get_generation)
    return int(row["value"]) if row else 0


async def _add_keys(transaction: Queries, tenant_id: UUID, domain_id: UUID, keys: Sequence[NewKey]) -> None:
    for key in keys:
        row = await transaction.fetch_one(
            SQL.add_key,
            tenant_id,
            domain_id,
            key.dkim_key_id,
            key.selector,
            key.algorithm,
            key.public_key,
            key.sealed_private_key,
        )
        if row is None:
            raise Conflict("new keys of this domain wait to be published already: publish them, then verify the domain")


async def _tell(transaction: Queries, actor: str, action: str, tenant_id: UUID, domain_id: UUID) -> None:
    await transaction.execute(SQL.bump_generation)
    await add_audit(transaction, actor=actor, action=action, tenant_id=tenant_id, subject=str(domain_id))


async def _one(db: Queries, rows: list[Record]) -> Domain:
    if not rows:
        raise NotFound("no such domain")
    return (await _complete(db, rows))[0]


async def _complete(db: Queries, rows: list[Record]) -> list[Domain]:
    """Add the keys to rows of domains, in one statement whatever their number."""
    keys: dict[UUID, list[DkimKey]] = {row["domain_id"]: [] for row in rows}
    for domain_id, key_id, selector, algorithm, public_key, state, *moments in await db.fetch(
        SQL.list_keys, [row["tenant_id"] for row in rows], list(keys)
    ):
        keys[domain_id].append(
            DkimKey(key_id, selector, Algorithm(algorithm), public_key, KeyState(state), *moments)
        )  # fmt: skip
    return [
        Domain(row[0], row[1], row[2], DomainState(row[3]), row[4], row[5], row[6], tuple(keys[row[1]])) for row in rows
    ]
