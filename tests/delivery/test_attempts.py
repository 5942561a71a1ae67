"""One attempt from the sealed rows to the wire, on a real database and vault."""

import uuid
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage

import msgspec
import pytest
from uuid_utils.compat import uuid7

from email_gateway.delivery import Delivery
from email_gateway.delivery.smarthost import SmtpTransport
from email_gateway.errors import ClaimLost, DatabaseUnavailable
from email_gateway.mail.content import Address, Attachment, Content
from email_gateway.mail.deliveries import COMMON_LANE, Claims, Outcome, Phase, Verdict
from email_gateway.store import deliveries
from email_gateway.store.accepting import Acceptor, NewAttachment
from email_gateway.store.database import Database
from email_gateway.store.deliveries import Turns
from email_gateway.store.suppressions import Reason
from email_gateway.suppressions import Entry, Suppressions
from email_gateway.vault.held_roots import HeldRoots
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.roots import derive_root
from tests.conftest import KEY, SALT
from tests.delivery.attempting import Recorder, target_of
from tests.given_roots import only
from tests.makers import new_message, new_request
from tests.smtp_servers import SmtpServer

pytestmark = pytest.mark.anyio

INVOICE = Content(
    sender=Address("billing@acme.example", "Acme"),
    envelope=("maria@example.net", "joao@example.net", "hidden@example.net"),
    to=(Address("maria@example.net"),),
    cc=(Address("joao@example.net"),),
    bcc=(Address("hidden@example.net"),),
    subject="Your invoice",
    text="It is due on Friday.",
)


class Desk:
    """Stores messages as the API would and claims them as a worker would."""

    def __init__(self, db: Database, keyring: Keyring, tenant_id: uuid.UUID) -> None:
        self.db = db
        self.keyring = keyring
        self.tenant_id = tenant_id

    async def claim(self, content: Content | bytes = INVOICE, *files: Attachment) -> Claims:
        keys = await self.keyring.tenant(self.tenant_id)
        message_id = uuid7()
        plaintext = content if isinstance(content, bytes) else msgspec.msgpack.encode(content)
        attachments = []
        for file in files:
            attachment_id = uuid7()
            sealed = keys.seal("attachment.content", attachment_id, msgspec.msgpack.encode(file))
            attachments.append(NewAttachment(attachment_id, sealed, len(file.data)))
        message = new_message(
            message_id=message_id,
            sealed_content=keys.seal("message.content", message_id, plaintext),
            domains=("example.net",) * 3,
            attachments=tuple(attachments),
        )
        acceptor = Acceptor(self.db)
        await acceptor.accept(new_request(self.tenant_id, message))
        await acceptor.close()
        taken = await deliveries.claim(self.db, Turns({COMMON_LANE: 3}), lease_for=timedelta(seconds=20))
        (claims,) = taken.claims
        return claims

    async def attempt(self, claims: Claims, server: SmtpServer, reached: Recorder | None = None) -> list[Outcome]:
        target = target_of(server)
        transport = SmtpTransport(lambda: target)
        try:
            delivery = Delivery(transport, self.keyring, self.db)
            outcomes = await delivery.attempt(claims, reached or Recorder())
            await delivery.suppress(claims, outcomes)  # as the worker does once they are written
            return outcomes
        finally:
            await transport.close()


@pytest.fixture
def desk(db: Database, keyring: Keyring, tenant_id: uuid.UUID) -> Desk:
    return Desk(db, keyring, tenant_id)


def parsed(data: bytes) -> EmailMessage:
    return message_from_bytes(data, policy=policy.default)


async def test_a_message_reaches_every_claimed_recipient_in_one_conversation(desk: Desk) -> None:
    claims = await desk.claim()
    async with SmtpServer() as server:
        outcomes = await desk.attempt(claims, server)
    assert [(o.claim, o.verdict) for o in outcomes] == [(claim, Verdict.DELIVERED) for claim in claims.each]
    (receipt,) = server.receipts
    assert receipt.sender == "billing@acme.example"
    assert receipt.recipients == INVOICE.envelope
    mail = parsed(receipt.data)
    assert (mail["subject"], mail["to"], mail["cc"]) == ("Your invoice", "maria@example.net", "joao@example.net")
    assert mail["message-id"] == f"<{claims.message_id}@acme.example>"
    assert mail.get_content().strip() == "It is due on Friday."
    assert b"hidden@" not in receipt.data


async def test_only_claimed_recipients_are_named(desk: Desk) -> None:
    claims = await desk.claim()
    async with SmtpServer() as server:
        outcomes = await desk.attempt(replace(claims, each=claims.each[1:2]), server)
    assert len(outcomes) == 1
    assert server.receipts[0].recipients == ("joao@example.net",)


async def test_who_was_suppressed_after_the_accept_is_not_named_and_the_others_get_their_mail(desk: Desk) -> None:
    claims = replace(await desk.claim(), is_fresh=False)  # the list is looked at when it was accepted
    suppressions = Suppressions(desk.db, desk.keyring)
    await suppressions.add(desk.tenant_id, [Entry("JOAO@example.net", Reason.UNSUBSCRIBE)])
    recorder = Recorder()
    async with SmtpServer() as server:
        outcomes = await desk.attempt(claims, server, recorder)
    verdicts = {outcome.claim.recipient: (outcome.verdict, outcome.reason) for outcome in outcomes}
    assert verdicts[1] == (Verdict.SUPPRESSED, "unsubscribe")
    assert {verdicts[0][0], verdicts[2][0]} == {Verdict.DELIVERED}
    assert server.receipts[0].recipients == ("maria@example.net", "hidden@example.net")
    assert recorder.phases[-1] == (Phase.DOT_PENDING, 2)


async def test_nobody_is_asked_about_a_mail_to_the_suppressed_alone(desk: Desk) -> None:
    claims = replace(await desk.claim(), is_fresh=False)  # the list is looked at when it was accepted
    await Suppressions(desk.db, desk.keyring).add(desk.tenant_id, [Entry(address) for address in INVOICE.envelope])
    recorder = Recorder()
    async with SmtpServer() as server:
        outcomes = await desk.attempt(claims, server, recorder)
    assert [(o.claim, o.verdict) for o in outcomes] == [(claim, Verdict.SUPPRESSED) for claim in claims.each]
    assert (server.receipts, recorder.phases) == ([], [])


async def test_a_dead_address_is_suppressed_for_its_tenant_and_a_full_mailbox_is_not(desk: Desk) -> None:
    claims = await desk.claim()
    answers = {"maria@example.net": b"550 5.1.1 no such user\r\n", "joao@example.net": b"552 5.2.2 mailbox full\r\n"}
    async with SmtpServer(refused=answers) as server:
        outcomes = await desk.attempt(claims, server)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.BOUNCED, Verdict.BOUNCED, Verdict.DELIVERED]
    suppressions = Suppressions(desk.db, desk.keyring)
    assert await suppressions.find_reasons(desk.tenant_id, INVOICE.envelope) == [Reason.BOUNCE, None, None]
    found = await suppressions.find(desk.tenant_id, "maria@example.net")
    assert (found.source_id, found.expires_at) == (claims.message_id, None)


async def test_an_attempt_counts_though_the_dead_address_cannot_be_suppressed(desk: Desk) -> None:
    claims = await desk.claim()
    await desk.db.execute("ALTER TABLE suppression ADD CONSTRAINT nothing_more CHECK (false) NOT VALID")
    async with SmtpServer(refused={"maria@example.net": b"550 5.1.1 no such user\r\n"}) as server:
        outcomes = await desk.attempt(claims, server)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.BOUNCED, Verdict.DELIVERED, Verdict.DELIVERED]


async def test_a_process_that_never_met_the_key_loads_it(desk: Desk) -> None:
    claims = await desk.claim()
    desk.keyring = await Keyring.start(desk.db, only(derive_root(KEY, SALT), "k", "s"))
    async with SmtpServer() as server:
        outcomes = await desk.attempt(claims, server)
    assert outcomes[0].verdict is Verdict.DELIVERED


async def test_a_large_message_with_attachments_is_read_when_its_turn_comes(desk: Desk) -> None:
    text = "A line of an invoice that goes on.\r\n" * 6_000
    files = (
        Attachment("boleto.pdf", "application/pdf", b"%PDF-1.4" + bytes(200_000)),
        Attachment("a.txt", "text/plain", b"small"),
    )
    claims = await desk.claim(msgspec.structs.replace(INVOICE, text=text), *files)
    assert claims.sealed is None
    async with SmtpServer() as server:
        outcomes = await desk.attempt(claims, server)
    assert {outcome.verdict for outcome in outcomes} == {Verdict.DELIVERED}
    mail = parsed(server.receipts[0].data)
    body = mail.get_body()
    assert body is not None
    assert body.get_content().splitlines() == text.splitlines()
    attached = [(part.get_filename(), part.get_payload(decode=True)) for part in mail.iter_attachments()]
    assert attached == [(file.filename, file.data) for file in files]


async def assert_unreadable(desk: Desk, claims: Claims, reason: str) -> None:
    recorder = Recorder()
    async with SmtpServer() as server:
        outcomes = await desk.attempt(claims, server, recorder)
    assert [(o.verdict, o.stage, o.reason) for o in outcomes] == [
        (Verdict.UNREADABLE, "content", reason) for _ in claims.each
    ]
    assert not server.connections
    assert not recorder.phases


async def test_a_content_that_was_changed_is_unreadable(desk: Desk) -> None:
    claims = await desk.claim()
    assert claims.sealed is not None
    changed = claims.sealed[:-1] + bytes([claims.sealed[-1] ^ 1])
    await assert_unreadable(desk, replace(claims, sealed=changed), "tampered")
    await assert_unreadable(desk, replace(claims, sealed=b"no sealed value"), "tampered")
    await assert_unreadable(desk, replace(claims, sealed=b""), "tampered")


async def test_a_content_that_belongs_to_another_message_is_unreadable(desk: Desk) -> None:
    one, other = await desk.claim(), await desk.claim()
    await assert_unreadable(desk, replace(one, sealed=other.sealed), "tampered")


async def test_a_content_that_is_gone_is_unreadable(desk: Desk) -> None:
    claims = await desk.claim()
    await assert_unreadable(desk, replace(claims, message_id=uuid7(), sealed=None), "content_missing")


async def test_a_mail_never_leaves_without_its_attachment(desk: Desk) -> None:
    claims = await desk.claim(INVOICE, Attachment("boleto.pdf", "application/pdf", b"%PDF"))
    await desk.db.execute("DELETE FROM attachment WHERE message_id = $1", claims.message_id)
    await assert_unreadable(desk, claims, "attachment_missing")


async def test_an_attachment_of_another_message_is_unreadable(desk: Desk) -> None:
    claims = await desk.claim(INVOICE, Attachment("boleto.pdf", "application/pdf", b"%PDF"))
    await desk.db.execute("UPDATE attachment SET attachment_id = $2 WHERE message_id = $1", claims.message_id, uuid7())
    await assert_unreadable(desk, claims, "tampered")


@pytest.mark.parametrize(
    "content",
    [
        b"\xc1",
        msgspec.msgpack.encode({"sender": "not a map"}),
        msgspec.msgpack.encode(msgspec.structs.replace(INVOICE, envelope=("only@example.net",))),
        msgspec.msgpack.encode(msgspec.structs.replace(INVOICE, headers=(("X-A\r\nBcc: evil@x.example", "v"),))),
        msgspec.msgpack.encode(msgspec.structs.replace(INVOICE, subject="a\r\nBcc: evil@x.example")),
        msgspec.msgpack.encode(msgspec.structs.replace(INVOICE, text="NUL \0")),
    ],
)
async def test_a_content_that_makes_no_mail_is_unreadable(
    desk: Desk, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    await assert_unreadable(desk, await desk.claim(content), "malformed")
    assert "evil" not in "".join(capsys.readouterr())


async def test_a_key_out_of_reach_defers(desk: Desk) -> None:
    claims = await desk.claim()
    desk.keyring = Keyring(desk.db, HeldRoots(only(derive_root(SALT, KEY))))
    async with SmtpServer() as server:
        outcomes = await desk.attempt(claims, server)
    assert {(o.verdict, o.reason) for o in outcomes} == {(Verdict.HELD, "key_unavailable")}
    assert not server.connections


async def test_a_database_out_of_reach_defers(desk: Desk) -> None:
    claims = replace(await desk.claim(), sealed=None)
    await desk.db.close()
    async with SmtpServer() as server:
        outcomes = await desk.attempt(claims, server)
    assert {(o.verdict, o.reason) for o in outcomes} == {(Verdict.HELD, "database_unavailable")}
    assert not server.connections


async def test_a_phase_that_cannot_be_written_defers_and_sends_nothing(desk: Desk) -> None:
    claims = await desk.claim()
    async with SmtpServer() as server:
        outcomes = await desk.attempt(claims, server, Recorder(error=DatabaseUnavailable("away")))
    assert {(o.verdict, o.reason) for o in outcomes} == {(Verdict.HELD, "database_unavailable")}
    assert not server.receipts


@pytest.mark.parametrize("phase", [Phase.CONNECTED, Phase.RCPT_OK, Phase.DOT_PENDING])
async def test_a_lost_claim_is_the_callers_to_know_and_sends_nothing(desk: Desk, phase: Phase) -> None:
    claims = await desk.claim()
    async with SmtpServer() as server:
        with pytest.raises(ClaimLost):
            await desk.attempt(claims, server, Recorder(error=ClaimLost("lost"), at=phase))
    assert not server.receipts
