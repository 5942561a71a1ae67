"""Which keys sign a mail, on a real database and vault, and what leaves then."""

import uuid
from collections.abc import Sequence

import dkim
import pytest
from uuid_utils.compat import uuid7

from email_gateway.delivery import Delivery
from email_gateway.delivery.signing import SenderKeys, make_keys
from email_gateway.mail.content import Address, Attachment
from email_gateway.mail.deliveries import Verdict
from email_gateway.mail.domains import DomainState, key_record_name, key_record_value
from email_gateway.store import domain_facts
from email_gateway.store.database import Database
from email_gateway.store.domains import Domain, add_domain, add_keys, get_domain, remove_domain, settle_verification
from email_gateway.vault.keyring import Keyring
from tests.delivery.test_attempts import INVOICE, Desk
from tests.smtp_servers import SmtpServer

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each mail ask whether something changed."""
    monkeypatch.setattr(domain_facts, "LOOK_EVERY_SECONDS", 0.0)


@pytest.fixture
def desk(db: Database, keyring: Keyring, tenant_id: uuid.UUID) -> Desk:
    return Desk(db, keyring, tenant_id)


async def verified(db: Database, keyring: Keyring, tenant_id: uuid.UUID, name: str = "acme.example") -> Domain:
    """A domain whose keys the DNS has shown."""
    domain_id = uuid7()
    await add_domain(db, tenant_id, domain_id, name, make_keys(await keyring.tenant(tenant_id)), actor="test")
    return await shown(db, await get_domain(db, tenant_id, domain_id))


async def shown(db: Database, domain: Domain) -> Domain:
    await settle_verification(
        db, domain, DomainState.VERIFIED, [key.dkim_key_id for key in domain.keys], actor="test"
    )  # fmt: skip
    return await get_domain(db, domain.tenant_id, domain.domain_id)


def selectors_of(mail: bytes) -> list[str]:
    return [part.partition(b";")[0].decode() for part in mail.replace(b"\r\n\t", b" ").split(b" s=")[1:]]


def require_signed(mail: bytes, domains: Sequence[Domain]) -> None:
    """Fail unless another reader accepts both signatures by what is published of these domains."""
    records = {
        f"{key_record_name(key.selector, domain.name)}.".encode(): key_record_value(key.algorithm, key.public_key)
        for domain in domains
        for key in domain.keys
    }
    judge = dkim.DKIM(mail)
    for at in range(2):
        assert judge.verify(idx=at, dnsfunc=lambda name, **_: records.get(name, "").encode())


async def test_a_mail_leaves_with_both_signatures(desk: Desk) -> None:
    domain = await verified(desk.db, desk.keyring, desk.tenant_id)
    async with SmtpServer() as server:
        outcomes = await desk.attempt(await desk.claim(), server)
    assert {outcome.verdict for outcome in outcomes} == {Verdict.DELIVERED}
    (receipt,) = server.receipts
    require_signed(receipt.data, [domain])
    assert selectors_of(receipt.data) == [key.selector for key in domain.keys]


async def test_a_large_mail_is_signed_too(desk: Desk) -> None:
    domain = await verified(desk.db, desk.keyring, desk.tenant_id)
    file = Attachment("scan.pdf", "application/pdf", bytes(range(256)) * 4000)
    async with SmtpServer() as server:
        await desk.attempt(await desk.claim(INVOICE, file), server)
    require_signed(server.receipts[0].data, [domain])


async def test_a_mail_from_a_domain_without_a_key_leaves_as_it_is(desk: Desk) -> None:
    domain_id = uuid7()
    keys = make_keys(await desk.keyring.tenant(desk.tenant_id))
    await add_domain(desk.db, desk.tenant_id, domain_id, "acme.example", keys, actor="test")  # nobody published them
    other = uuid.uuid4()
    await desk.db.execute("INSERT INTO tenant (tenant_id, name) VALUES ($1, 'other')", other)
    await verified(desk.db, desk.keyring, other)
    async with SmtpServer() as server:
        await desk.attempt(await desk.claim(), server)
    assert server.receipts[0].data.startswith(b"From: ")


async def test_the_nearest_domain_of_the_tenant_signs_for_those_below_it(desk: Desk) -> None:
    sender_keys = SenderKeys(desk.db, desk.keyring)
    await verified(desk.db, desk.keyring, desk.tenant_id, "acme.example")
    await verified(desk.db, desk.keyring, desk.tenant_id, "mail.acme.example")
    for sender, signer in {
        "acme.example": "acme.example",
        "billing.acme.example": "acme.example",
        "mail.acme.example": "mail.acme.example",
        "a.b.mail.acme.example": "mail.acme.example",
        "notacme.example": None,
        "example": None,
    }.items():
        found = await sender_keys.list_signers(desk.tenant_id, sender)
        assert {one.domain for one in found} == ({signer} if signer else set()), sender
        assert len(found) == (2 if signer else 0)


async def test_the_domain_above_signs_a_mail_from_below_it(desk: Desk) -> None:
    domain = await verified(desk.db, desk.keyring, desk.tenant_id)
    content = INVOICE.__class__(
        sender=Address("a@billing.acme.example"), envelope=INVOICE.envelope, subject="x", text="y"
    )
    async with SmtpServer() as server:
        await desk.attempt(await desk.claim(content), server)
    require_signed(server.receipts[0].data, [domain])
    assert b" d=acme.example;" in server.receipts[0].data


async def test_a_rotation_is_followed_by_a_process_that_has_signed_before(desk: Desk) -> None:
    sender_keys = SenderKeys(desk.db, desk.keyring)

    async def selectors() -> set[str]:
        return {one.selector for one in await sender_keys.list_signers(desk.tenant_id, "acme.example")}

    domain = await verified(desk.db, desk.keyring, desk.tenant_id)
    first = {key.selector for key in domain.keys}
    assert await selectors() == first
    await add_keys(desk.db, domain, make_keys(await desk.keyring.tenant(desk.tenant_id)), actor="test")
    assert await selectors() == first, "what is not published does not sign"
    domain = await shown(desk.db, await get_domain(desk.db, desk.tenant_id, domain.domain_id))
    assert await selectors() == {key.selector for key in domain.keys} - first
    await remove_domain(desk.db, desk.tenant_id, domain.domain_id, actor="test")
    assert await selectors() == set()


async def test_nothing_is_asked_again_while_nothing_changes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domain_facts, "LOOK_EVERY_SECONDS", 60.0)
    await verified(desk.db, desk.keyring, desk.tenant_id)
    sender_keys = SenderKeys(desk.db, desk.keyring)
    first = await sender_keys.list_signers(desk.tenant_id, "acme.example")
    await desk.db.execute("DELETE FROM domain")
    assert await sender_keys.list_signers(desk.tenant_id, "acme.example") is first


async def test_the_same_message_is_the_same_at_each_attempt_but_for_the_signatures(desk: Desk) -> None:
    await verified(desk.db, desk.keyring, desk.tenant_id)
    claims = await desk.claim()
    async with SmtpServer() as server:
        for _ in range(2):
            await desk.attempt(claims, server)
    first, second = (receipt.data.partition(b"From: ") for receipt in server.receipts)
    assert first[2] == second[2]


async def test_a_mail_whose_key_does_not_open_waits_for_an_operator(desk: Desk) -> None:
    await verified(desk.db, desk.keyring, desk.tenant_id)
    await desk.db.execute(
        "UPDATE dkim_key SET sealed_private_key = set_byte(sealed_private_key, 60, get_byte(sealed_private_key, 60) # 1)"
    )
    async with SmtpServer() as server:
        outcomes = await desk.attempt(await desk.claim(), server)
    assert not server.receipts
    assert {(outcome.verdict, outcome.reason) for outcome in outcomes} == {(Verdict.HELD, "key_unavailable")}


async def test_a_mail_is_not_lost_while_the_database_is_away(desk: Desk) -> None:
    claims = await desk.claim()
    delivery = Delivery(None, desk.keyring, desk.db)  # type: ignore[arg-type]  # it is not reached

    async def reached(*_: object) -> float:
        raise AssertionError("nothing is sent")

    await desk.db.close()
    outcomes = await delivery.attempt(claims, reached)
    assert {(outcome.verdict, outcome.reason) for outcome in outcomes} == {(Verdict.HELD, "database_unavailable")}
