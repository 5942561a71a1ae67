"""Sending domains as people have them: added, looked up in the DNS, verified, given new keys."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from uuid_utils.compat import uuid7

from email_gateway.delivery.dns import Resolver
from email_gateway.delivery.signing import make_keys
from email_gateway.errors import Conflict, DnsUnavailable, Fault, InvalidRequest
from email_gateway.mail.addresses import InvalidAddress, parse_domain
from email_gateway.mail.domains import (
    MAX_NAME_OCTETS,
    Algorithm,
    DomainState,
    KeyState,
    Policy,
    Shown,
    judge_dmarc,
    judge_key_record,
    judge_spf,
    key_record_name,
    lineage_of,
)
from email_gateway.store import domains as store
from email_gateway.store.database import Database
from email_gateway.store.domains import DkimKey, Domain
from email_gateway.vault.keyring import Keyring

# Keys whose records decide: those that sign, or are about to.
DECIDING = (KeyState.PENDING, KeyState.ACTIVE)


@dataclass(frozen=True, slots=True)
class Sight:
    """What the DNS shows of a domain: each key that signs or is about to, and what else receivers ask for."""

    keys: dict[UUID, Shown]
    spf: Policy
    dmarc: Policy


async def add_domain(db: Database, keyring: Keyring, tenant_id: UUID, text: str, *, actor: str) -> Domain:
    """Add a domain with keys to publish.

    Raises InvalidRequest for what is none, Conflict when the tenant has it or has too many, NotFound without the tenant.
    """
    name = read_name(text)
    # Asked before keys are made, which takes a tenth of a second, and again when they are stored.
    await store.require_room(db, tenant_id)
    if await store.find_domain_by_name(db, tenant_id, name) is not None:
        raise Conflict("this tenant has this domain already")
    domain_id = uuid7()
    keys = await asyncio.to_thread(make_keys, await keyring.tenant(tenant_id))
    await store.add_domain(db, tenant_id, domain_id, name, keys, actor=actor)
    return await store.get_domain(db, tenant_id, domain_id)


async def rotate_domain(db: Database, keyring: Keyring, domain: Domain, *, actor: str) -> Domain:
    """Make the keys that take over once the DNS shows them; raises Conflict while others wait for that."""
    if any(key.state is KeyState.PENDING for key in domain.keys):
        raise Conflict("new keys of this domain wait to be published already: publish them, then verify the domain")
    keys = await asyncio.to_thread(make_keys, await keyring.tenant(domain.tenant_id))
    await store.add_keys(db, domain, keys, actor=actor)
    return await store.get_domain(db, domain.tenant_id, domain.domain_id)


async def verify_domain(db: Database, resolver: Resolver, domain: Domain, *, actor: str) -> tuple[Domain, Sight]:
    """Ask the DNS, let keys that it shows sign from now on, and return the domain as it stands then.

    A domain is verified while the DNS shows one of its RSA keys, which every receiver understands. Raises
    DnsUnavailable, and changes nothing, when that cannot be told.
    """
    sight = await look_up(resolver, domain)
    rsa = {sight.keys[key.dkim_key_id] for key in deciding_keys(domain) if key.algorithm is Algorithm.RSA}
    if Shown.RIGHT not in rsa and Shown.UNKNOWN in rsa:
        raise DnsUnavailable("the DNS does not answer whether the domain's keys are published")
    state = DomainState.VERIFIED if Shown.RIGHT in rsa else DomainState.FAILED
    if domain.state is DomainState.PENDING and state is DomainState.FAILED:
        state = DomainState.PENDING
    shown = [key_id for key_id, found in sight.keys.items() if found is Shown.RIGHT]
    await store.settle_verification(db, domain, state, shown, actor=actor)
    return await store.get_domain(db, domain.tenant_id, domain.domain_id), sight


async def look_up(resolver: Resolver, domain: Domain) -> Sight:
    """Ask the DNS about a domain, everything at a time; what is not answered is unknown."""
    keys = deciding_keys(domain)
    shown, spf, dmarc = await asyncio.gather(
        asyncio.gather(*(_look_up_key(resolver, domain, key) for key in keys)),
        _look_up_policy(resolver, domain.name, judge_spf),
        _look_up_dmarc(resolver, domain.name),
    )
    return Sight({key.dkim_key_id: found for key, found in zip(keys, shown, strict=True)}, spf, dmarc)


def deciding_keys(domain: Domain) -> list[DkimKey]:
    """Return the keys that sign or are about to."""
    return [key for key in domain.keys if key.state in DECIDING]


def read_name(text: str) -> str:
    """Return a domain's name as it is kept; raises InvalidRequest."""
    try:
        name = parse_domain(text.strip().rstrip("."))
    except InvalidAddress:
        fault = Fault("/name", "name a domain that you send from, such as example.com")
        raise InvalidRequest("the domain is not valid", (fault,)) from None
    if len(name) > MAX_NAME_OCTETS:
        fault = Fault("/name", f"name a domain of at most {MAX_NAME_OCTETS} characters: its keys stand below it")
        raise InvalidRequest("the domain is not valid", (fault,))
    return name


async def _look_up_key(resolver: Resolver, domain: Domain, key: DkimKey) -> Shown:
    try:
        texts = await resolver.list_texts(key_record_name(key.selector, domain.name))
    except DnsUnavailable:
        return Shown.UNKNOWN
    return judge_key_record(texts, key.algorithm, key.public_key)


async def _look_up_policy(resolver: Resolver, name: str, judge: Callable[[Sequence[str]], Policy]) -> Policy:
    try:
        return judge(await resolver.list_texts(name))
    except DnsUnavailable:
        return Policy(Shown.UNKNOWN)


async def _look_up_dmarc(resolver: Resolver, name: str) -> Policy:
    """Look at the domain and at what may be its organisation's: the nearest policy counts (RFC 7489 section 6.6.3)."""
    lineage = lineage_of(name)
    names = dict.fromkeys((name, *lineage[-3:]))
    found = await asyncio.gather(*(_look_up_policy(resolver, f"_dmarc.{each}", judge_dmarc) for each in names))
    return next((policy for policy in found if policy.shown is not Shown.MISSING), found[0])
