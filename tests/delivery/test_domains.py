"""Sending domains against a real DNS server: verified when it shows their keys, rotated with an overlap."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from uuid_utils.compat import uuid7

from email_gateway.delivery.dns import Resolver
from email_gateway.delivery.domains import add_domain, look_up, read_name, rotate_domain, verify_domain
from email_gateway.delivery.signing import FIELD, make_keys
from email_gateway.errors import Conflict, DnsUnavailable, InvalidRequest, NotFound
from email_gateway.mail.domains import MAX_NAME_OCTETS, Algorithm, DomainState, KeyState, Policy, Shown
from email_gateway.store import domains as store
from email_gateway.store.audit import list_audit
from email_gateway.store.database import Database
from email_gateway.store.domains import OVERLAP, DkimKey, Domain
from email_gateway.store.pages import Page
from email_gateway.vault.keyring import Keyring
from tests.dns_server import DnsServer, publish

pytestmark = pytest.mark.anyio


class Office:
    """An operator with a DNS zone."""

    def __init__(self, db: Database, keyring: Keyring, tenant_id: uuid.UUID, dns: DnsServer) -> None:
        self.db, self.keyring, self.tenant_id, self.dns = db, keyring, tenant_id, dns
        self.resolver = Resolver([("127.0.0.1", dns.port)], within=1.0)

    async def add(self, name: str = "acme.example") -> Domain:
        return await add_domain(self.db, self.keyring, self.tenant_id, name, actor="test")

    async def verify(self, domain: Domain) -> Domain:
        return (await verify_domain(self.db, self.resolver, domain, actor="test"))[0]

    async def rotate(self, domain: Domain) -> Domain:
        return await rotate_domain(self.db, self.keyring, domain, actor="test")

    async def again(self, domain: Domain) -> Domain:
        return await store.get_domain(self.db, domain.tenant_id, domain.domain_id)


@pytest.fixture
async def office(db: Database, keyring: Keyring, tenant_id: uuid.UUID) -> AsyncIterator[Office]:
    async with DnsServer() as dns:
        yield Office(db, keyring, tenant_id, dns)


def states_of(domain: Domain) -> dict[str, list[KeyState]]:
    return {
        algorithm: [key.state for key in domain.keys if key.algorithm is algorithm] for algorithm in Algorithm
    }  # fmt: skip


def key_of(domain: Domain, algorithm: Algorithm, state: KeyState) -> DkimKey:
    (key,) = (key for key in domain.keys if (key.algorithm, key.state) == (algorithm, state))
    return key


async def test_a_new_domain_has_a_sealed_key_of_each_algorithm(office: Office) -> None:
    domain = await office.add("Acme.Example.")
    assert (domain.name, domain.state, domain.checked_at) == ("acme.example", DomainState.PENDING, None)
    assert states_of(domain) == {"rsa-sha256": [KeyState.PENDING], "ed25519-sha256": [KeyState.PENDING]}
    assert len({key.selector for key in domain.keys}) == 2, "each stands at a name of its own"
    for row in await office.db.fetch("SELECT dkim_key_id, sealed_private_key FROM dkim_key"):
        opened = await office.keyring.open(office.tenant_id, FIELD, row["dkim_key_id"], row["sealed_private_key"])
        assert opened.startswith(b"0"), "PKCS #8 in DER"
        assert opened not in row["sealed_private_key"]


async def test_keys_sign_once_the_dns_shows_them(office: Office) -> None:
    domain = await office.verify(await office.add())
    assert (domain.state, domain.verified_at) == (DomainState.PENDING, None)
    assert domain.checked_at is not None
    publish(office.dns, domain)
    domain = await office.verify(domain)
    assert domain.state is DomainState.VERIFIED
    assert states_of(domain) == {"rsa-sha256": [KeyState.ACTIVE], "ed25519-sha256": [KeyState.ACTIVE]}
    assert await office.verify(domain) == await office.again(domain)
    assert [entry.action for entry in await list_audit(office.db)] == ["domain.verified", "domain.added"]


@pytest.mark.parametrize(
    ("published", "state"), [(Algorithm.RSA, DomainState.VERIFIED), (Algorithm.ED25519, DomainState.PENDING)]
)
async def test_each_key_signs_by_itself_and_rsa_decides(
    office: Office, published: Algorithm, state: DomainState
) -> None:
    domain = await office.add()
    publish(office.dns, domain, published)
    domain = await office.verify(domain)
    assert domain.state is state
    assert {key.algorithm for key in domain.keys if key.state is KeyState.ACTIVE} == {published}


async def test_a_rotation_overlaps(office: Office) -> None:
    domain = await office.add()
    publish(office.dns, domain)
    domain = await office.rotate(await office.verify(domain))
    assert set(states_of(domain)["rsa-sha256"]) == {KeyState.ACTIVE, KeyState.PENDING}
    assert (await office.verify(domain)).state is DomainState.VERIFIED, "the older keys are still there"
    with pytest.raises(Conflict):
        await office.rotate(await office.again(domain))
    publish(office.dns, domain)
    domain = await office.verify(domain)
    for algorithm in Algorithm:
        assert states_of(domain)[algorithm] == [KeyState.RETIRING, KeyState.ACTIVE]
    retiring = key_of(domain, Algorithm.RSA, KeyState.RETIRING)
    assert retiring.retiring_at is not None
    assert retiring.removable_at == retiring.retiring_at + OVERLAP

    assert await store.retire_keys(office.db) == 0
    await office.db.execute(
        "UPDATE dkim_key SET retiring_at = retiring_at - $1::interval", OVERLAP + timedelta(hours=1)
    )
    assert await store.retire_keys(office.db) == 2
    rows = await office.db.fetch("SELECT state FROM dkim_key WHERE sealed_private_key IS NULL")
    assert [row["state"] for row in rows] == ["retired", "retired"], "their private halves are destroyed"


async def test_of_two_rotations_at_a_time_one_is_refused(office: Office) -> None:
    domain = await office.add()
    publish(office.dns, domain)
    domain = await office.verify(domain)
    keys = make_keys(await office.keyring.tenant(office.tenant_id))
    await store.add_keys(office.db, domain, keys, actor="test")
    with pytest.raises(Conflict):
        await office.rotate(domain)  # it has read the domain before


async def test_a_domain_whose_record_vanished_has_failed_until_it_is_back(office: Office) -> None:
    domain = await office.add()
    publish(office.dns, domain)
    domain = await office.verify(domain)
    kept, office.dns.texts = office.dns.texts, {}
    domain = await office.verify(domain)
    assert domain.state is DomainState.FAILED
    assert not await store.is_verified(office.db, office.tenant_id, "acme.example")
    office.dns.texts = kept
    assert (await office.verify(domain)).state is DomainState.VERIFIED


async def test_a_dns_that_does_not_answer_changes_nothing(office: Office) -> None:
    domain = await office.add()
    publish(office.dns, domain)
    domain = await office.verify(domain)
    office.dns.failing |= set(office.dns.texts)
    with pytest.raises(DnsUnavailable):
        await office.verify(domain)
    assert await office.again(domain) == domain


async def test_spf_and_dmarc_are_seen_and_decide_nothing(office: Office) -> None:
    domain = await office.add("mail.acme.example")
    publish(office.dns, domain)
    assert (await office.verify(domain)).state is DomainState.VERIFIED
    sight = await look_up(office.resolver, domain)
    assert (sight.spf.shown, sight.dmarc.shown) == (Shown.MISSING, Shown.MISSING)
    office.dns.texts["mail.acme.example"] = ["v=spf1 -all", "v=spf1 ~all"]
    office.dns.texts["_dmarc.acme.example"] = ["v=DMARC1; p=reject"]
    sight = await look_up(office.resolver, domain)
    assert (sight.spf.shown, sight.dmarc) == (Shown.SEVERAL, Policy(Shown.RIGHT, "v=DMARC1; p=reject")), (
        "the organisation's policy counts below it"
    )
    office.dns.failing |= {"mail.acme.example", "_dmarc.mail.acme.example"}
    sight = await look_up(office.resolver, domain)
    assert (sight.spf.shown, sight.dmarc.shown) == (Shown.UNKNOWN, Shown.UNKNOWN)


@pytest.mark.parametrize("text", ["", "acme", "a b.example", "acme.example@x", "127.0.0.1", "x" * 300])
async def test_what_is_no_domain_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_name(text)
    assert refused.value.faults[0].pointer == "/name"


async def test_a_name_that_leaves_no_room_for_its_keys_is_refused() -> None:
    label = "a" * 54
    with pytest.raises(InvalidRequest):
        read_name(".".join([label] * 4) + ".example")
    assert len(read_name(".".join([label] * 3) + ".example")) <= MAX_NAME_OCTETS


async def test_a_domain_is_added_once_and_to_a_tenant_that_is_there(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.add()
    with pytest.raises(Conflict):
        await office.add("ACME.example")
    keys = make_keys(await office.keyring.tenant(office.tenant_id))
    with pytest.raises(Conflict):  # whoever looked before the other had added it
        await store.add_domain(office.db, office.tenant_id, uuid7(), "acme.example", keys, actor="test")
    with pytest.raises(NotFound):
        await add_domain(office.db, office.keyring, uuid.uuid4(), "acme.example", actor="test")
    monkeypatch.setattr(store, "MAX_DOMAINS", 1)
    with pytest.raises(Conflict, match="1 domains already"):
        await office.add("acme.test")


async def test_what_is_gone_is_not_found(office: Office) -> None:
    domain = await office.add()
    publish(office.dns, domain)
    await store.remove_domain(office.db, domain.tenant_id, domain.domain_id, actor="test")
    assert not await office.db.fetch("SELECT FROM dkim_key")
    for gone in (office.again(domain), office.verify(domain), office.rotate(without_keys(domain))):
        with pytest.raises(NotFound):
            await gone
    with pytest.raises(NotFound):
        await store.remove_domain(office.db, domain.tenant_id, domain.domain_id, actor="test")
    with pytest.raises(NotFound):
        await store.get_domain_by_id(office.db, domain.domain_id)
    assert await store.find_domain_by_name(office.db, domain.tenant_id, domain.name) is None


def without_keys(domain: Domain) -> Domain:
    return replace(domain, keys=())


async def test_another_tenants_domain_is_not_found_and_proves_nothing(office: Office) -> None:
    other = uuid.uuid4()
    await office.db.execute("INSERT INTO tenant (tenant_id, name) VALUES ($1, 'other')", other)
    domain = await office.add()
    publish(office.dns, domain)
    await office.verify(domain)
    with pytest.raises(NotFound):
        await store.get_domain(office.db, other, domain.domain_id)
    assert await store.list_domains(office.db, other, Page()) == ([], False)
    assert not await store.is_verified(office.db, other, "acme.example")
    assert await store.is_verified(office.db, office.tenant_id, "acme.example")
    assert await store.is_verified(office.db, office.tenant_id, "billing.acme.example")


async def test_domains_are_listed_page_by_page(office: Office) -> None:
    made = [await office.add(f"{name}.example") for name in ("one", "two", "three")]
    newest_first = [domain.domain_id for domain in reversed(made)]

    async def page(**given: uuid.UUID) -> tuple[list[uuid.UUID], bool]:
        found, has_more = await store.list_domains(office.db, office.tenant_id, Page(2, **given))
        return [domain.domain_id for domain in found], has_more

    assert await page() == (newest_first[:2], True)
    assert await page(after=newest_first[1]) == (newest_first[2:], False)
    assert await page(before=newest_first[2]) == (newest_first[:2], False)
    assert await page(before=newest_first[1]) == (newest_first[:1], False)
