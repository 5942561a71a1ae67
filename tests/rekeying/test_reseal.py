"""Every kind of sealed value moves to the newest field key, whenever it is killed and whatever happens meanwhile."""

import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

import pytest
from uuid_utils.compat import uuid7

from email_gateway.delivery.signing import make_keys
from email_gateway.errors import Conflict, DatabaseUnavailable, KeyUnavailable, OperatorError
from email_gateway.rekeying import walking
from email_gateway.rekeying.reseal import Replacement, Resealing, reseal_page
from email_gateway.rekeying.walking import Done, OldKeys, Pace, Report
from email_gateway.store.accepting import PIECE_BYTES
from email_gateway.store.database import Database
from email_gateway.store.domains import add_domain
from email_gateway.store.inbox import InboxMail, add_inbox_mail
from email_gateway.store.key_walks import Counts, Position, Relation, SealedPage, begin_walk, find_walk
from email_gateway.store.templates import Version, add_template
from email_gateway.store.webhooks import SealedEndpoint, add_webhook, get_webhook, rotate_secret
from email_gateway.suppressions import Entry, Suppressions
from email_gateway.vault.data_keys import FieldKey
from email_gateway.vault.keyring import Keyring
from tests.rekeying.process import Process, address_of, attachment

pytestmark = pytest.mark.anyio

VALUES = """
    SELECT 'message.content' AS field, message_id AS row_id,
           whole_value(tenant_id, message_id, message_id, sealed_content) AS sealed FROM message
    UNION ALL SELECT 'message.tax_id', message_id, sealed_tax_id FROM message WHERE sealed_tax_id IS NOT NULL
    UNION ALL SELECT 'message.summary', message_id, sealed_summary FROM message WHERE sealed_summary IS NOT NULL
    UNION ALL SELECT 'attachment.content', attachment_id,
           whole_value(tenant_id, message_id, attachment_id, sealed_content) FROM attachment
    UNION ALL SELECT 'attachment.summary', attachment_id, sealed_summary FROM attachment WHERE sealed_summary IS NOT NULL
    UNION ALL SELECT 'event.reply', event_id, sealed_reply FROM event WHERE sealed_reply IS NOT NULL
    UNION ALL SELECT 'inbox.raw', inbox_id, sealed_raw FROM inbox_mail
    UNION ALL SELECT 'domain.dkim_key', dkim_key_id, sealed_private_key FROM dkim_key WHERE sealed_private_key IS NOT NULL
    UNION ALL SELECT 'suppression.entry', suppression_id, sealed_entry FROM suppression
    UNION ALL SELECT 'template.content', version_id, sealed_content FROM template_version
    UNION ALL SELECT 'webhook.endpoint', webhook_id, sealed_endpoint FROM webhook
    UNION ALL SELECT 'webhook.secret', webhook_id, sealed_secret FROM webhook
    UNION ALL SELECT 'webhook.old_secret', webhook_id, sealed_old_secret FROM webhook WHERE sealed_old_secret IS NOT NULL
    UNION ALL SELECT 'webhook_delivery.answer', delivery_id, sealed_answer FROM webhook_delivery
        WHERE sealed_answer IS NOT NULL
"""
REPORTS_NOTHING: Callable[[Report], None] = lambda _: None  # noqa: E731


@pytest.fixture
async def process(db: Database) -> Process:
    return await Process.start(db)


async def fill(process: Process, tenant_id: UUID, count: int) -> None:
    """Messages with attachments, events and inbox mails, some of them without a tax id or a reply, templates and webhooks."""
    keys = await process.keyring.tenant(tenant_id)
    for number in range(count):
        changes = {} if number % 3 else {"recipient": None}
        await process.accept(tenant_id, number, attachments=[attachment(), attachment()], **changes)
        await Suppressions(process.db, process.keyring).add(tenant_id, [Entry(address_of(1000 + number))])
    for row in await process.db.fetch("SELECT message_id FROM message"):
        event_id, inbox_id = uuid4(), uuid4()
        await process.db.execute(
            "INSERT INTO event (tenant_id, message_id, event_id, kind, sealed_reply)"
            " VALUES ($1, $2, $3, 'delivered', $4)",
            tenant_id, row["message_id"], event_id, keys.seal("event.reply", event_id, b"250 taken"),
        )  # fmt: skip
        sealed = keys.seal("inbox.raw", inbox_id, b"a whole mail")
        await add_inbox_mail(process.db, InboxMail(tenant_id, inbox_id, row["message_id"], (0,), sealed, 12))
        version_id = uuid4()
        version = Version(version_id, keys.seal("template.content", version_id, b"what it says"))
        await add_template(process.db, tenant_id, uuid4(), "Order", None, version)
    for number in range(2):
        await add_hook(process, tenant_id, has_old_secret=number == 1)
    for name in ("acme.example", "acme.test"):
        await add_domain(process.db, tenant_id, uuid7(), name, make_keys(keys), actor="test")


async def add_hook(process: Process, tenant_id: UUID, *, has_old_secret: bool) -> None:
    keys = await process.keyring.tenant(tenant_id)
    webhook_id = uuid4()
    endpoint, secret, old = (
        keys.seal(f"webhook.{name}", webhook_id, name.encode()) for name in ("endpoint", "secret", "old_secret")
    )
    place = SealedEndpoint("hooks.example.com", endpoint)
    await add_webhook(process.db, tenant_id, webhook_id, place, secret, ["email.sent"], include_personal=False)
    if has_old_secret:
        await rotate_secret(process.db, await get_webhook(process.db, tenant_id, webhook_id), secret, old)
    for number in range(3):  # two with an answer, one without
        delivery_id = uuid4()
        await process.db.execute(
            "INSERT INTO webhook_delivery (tenant_id, message_id, delivery_id, webhook_id, kind, sealed_answer)"
            " VALUES ($1, gen_random_uuid(), $2, $3, 'accepted', $4)",
            tenant_id,
            delivery_id,
            webhook_id,
            keys.seal("webhook_delivery.answer", delivery_id, b"what it said") if number else None,
        )


async def open_all(db: Database, keyring: Keyring, tenant_id: UUID) -> dict[tuple[str, UUID], bytes]:
    return {
        (row["field"], row["row_id"]): await keyring.open(tenant_id, row["field"], row["row_id"], row["sealed"])
        for row in await db.fetch(VALUES)
    }


async def key_ids(db: Database) -> set[bytes]:
    return {row["sealed"][2:18] for row in await db.fetch(VALUES)}


async def assert_moved(process: Process, tenant_id: UUID, before: dict[tuple[str, UUID], bytes], newest: bytes) -> None:
    assert await key_ids(process.db) == {newest}
    assert await open_all(process.db, process.keyring, tenant_id) == before


async def reseal(
    process: Process, tenant_id: UUID, progress: Callable[[Report], None] = REPORTS_NOTHING, rate: int = 0
) -> Counts:
    total = Counts()
    for relation in Relation:
        total += await Resealing(process.db, process.keyring, tenant_id, relation).run(Pace(rate), progress)
    return total


async def test_every_kind_of_value_moves_to_the_newest_key_and_still_opens(
    db: Database, process: Process, tenant_id: UUID
) -> None:
    await fill(process, tenant_id, 12)
    before = await open_all(db, process.keyring, tenant_id)
    newest = await process.keyring.renew_field_key(tenant_id)

    assert await reseal(process, tenant_id) == Counts(moved=len(before))
    await assert_moved(await Process.start(db), tenant_id, before, newest)
    assert await reseal(process, tenant_id) == Counts()


async def test_large_values_move_whole_and_leave_no_piece_behind(
    db: Database, process: Process, tenant_id: UUID
) -> None:
    for number in range(3):
        await process.accept(tenant_id, number, html="x" * (PIECE_BYTES * 2), attachments=[attachment(PIECE_BYTES + 1)])
    await process.accept(tenant_id, 3, attachments=[attachment()])
    assert len({row["row_id"] for row in await db.fetch("SELECT row_id FROM sealed_piece")}) == 6
    before = await open_all(db, process.keyring, tenant_id)
    newest = await process.keyring.renew_field_key(tenant_id)

    assert await reseal(process, tenant_id) == Counts(moved=len(before))
    await assert_moved(await Process.start(db), tenant_id, before, newest)
    assert await db.fetch("SELECT FROM sealed_piece") == []


async def test_values_under_several_older_keys_and_the_newest_are_told_apart(
    db: Database, process: Process, tenant_id: UUID
) -> None:
    newest = b""
    for number in range(3):
        newest = await process.keyring.renew_field_key(tenant_id)
        for _ in range(2):
            await process.accept(tenant_id, number)
    before = await open_all(db, process.keyring, tenant_id)
    assert len(await key_ids(db)) == 3
    assert await reseal(process, tenant_id) == Counts(moved=len(before) * 2 // 3)
    await assert_moved(process, tenant_id, before, newest)


async def test_values_of_another_tenant_are_left_alone(db: Database, process: Process, tenant_id: UUID) -> None:
    other = uuid4()
    await db.execute("INSERT INTO tenant (tenant_id, name) VALUES ($1, 'other')", other)
    await process.accept(other, 1)
    await process.keyring.renew_field_key(other)
    await process.keyring.renew_field_key(tenant_id)
    before = await key_ids(db)
    assert await reseal(process, tenant_id) == Counts()
    assert await key_ids(db) == before


@pytest.mark.parametrize("batches", [1, 2, 5])
async def test_a_run_that_is_killed_after_a_batch_goes_on_from_there(
    db: Database, process: Process, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    monkeypatch.setattr(walking, "MAX_ROWS", 3)
    await fill(process, tenant_id, 20)
    before = await open_all(db, process.keyring, tenant_id)
    await process.keyring.renew_field_key(tenant_id)
    seen: list[Report] = []

    def kill(report: Report) -> None:
        seen.append(report)
        if len(seen) == batches:
            raise asyncio.CancelledError

    message = Resealing(db, process.keyring, tenant_id, Relation.MESSAGE)
    with pytest.raises(asyncio.CancelledError):
        await message.run(Pace(0), kill)
    stands = await find_walk(db, tenant_id, Relation.MESSAGE)
    assert stands is not None
    assert stands.finished_at is None
    assert stands.counts.moved == sum(report.counts.moved for report in seen) > 0

    again = await Process.start(db)
    looked_at: list[Report] = []
    counts = await Resealing(db, again.keyring, tenant_id, Relation.MESSAGE).run(Pace(0), looked_at.append)
    assert sum(report.rows for report in looked_at) == 20 - sum(report.rows for report in seen)
    assert counts == Counts(moved=20 + 13)
    await reseal(again, tenant_id)
    assert await open_all(db, again.keyring, tenant_id) == before


async def test_a_batch_whose_transaction_is_cut_off_is_done_again(
    db: Database, process: Process, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(process, tenant_id, 9)
    before = await open_all(db, process.keyring, tenant_id)
    newest = await process.keyring.renew_field_key(tenant_id)

    async def cut_off(*_: object, **__: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as cut:
        cut.setattr(walking, "advance_walk", cut_off)
        with pytest.raises(asyncio.CancelledError):
            await Resealing(db, process.keyring, tenant_id, Relation.MESSAGE).run(Pace(0), REPORTS_NOTHING)
    assert newest not in await key_ids(db), "values and position are written together or not at all"
    await reseal(process, tenant_id)
    await assert_moved(process, tenant_id, before, newest)


async def test_a_batch_commits_after_the_one_before_or_not_at_all(
    db: Database, process: Process, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "MAX_ROWS", 2)
    await fill(process, tenant_id, 6)
    await process.keyring.renew_field_key(tenant_id)
    before = await key_ids(db)
    first = (await db.fetch("SELECT message_id FROM message ORDER BY message_id LIMIT 1"))[0]["message_id"]
    second_is_written = asyncio.Event()
    write = Resealing._write

    async def break_the_first(self: Resealing, transaction: Database, work: Replacement) -> int:
        if first in work[0].row_ids:
            await second_is_written.wait()
            raise DatabaseUnavailable("PostgreSQL went away")
        moved = await write(self, transaction, work)
        second_is_written.set()
        return moved

    with monkeypatch.context() as broken:
        broken.setattr(Resealing, "_write", break_the_first)
        with pytest.raises(DatabaseUnavailable, match="went away"):
            await Resealing(db, process.keyring, tenant_id, Relation.MESSAGE).run(Pace(0), REPORTS_NOTHING)
    stands = await find_walk(db, tenant_id, Relation.MESSAGE)
    assert stands is not None
    assert (stands.at, stands.counts) == (Position(), Counts())
    assert await key_ids(db) == before, "the second batch was written, and undone with the first"


async def test_of_two_commands_on_the_same_values_one_ends_with_a_conflict(
    db: Database, process: Process, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "MAX_ROWS", 2)
    await fill(process, tenant_id, 30)
    before = await open_all(db, process.keyring, tenant_id)
    newest = await process.keyring.renew_field_key(tenant_id)
    ends = await asyncio.gather(
        *(
            Resealing(db, process.keyring, tenant_id, Relation.ATTACHMENT).run(Pace(0), REPORTS_NOTHING)
            for _ in range(2)
        ),
        return_exceptions=True,
    )
    assert {type(end) for end in ends} == {Conflict, Counts}
    await reseal(process, tenant_id)
    await assert_moved(process, tenant_id, before, newest)


async def test_a_run_is_ended_by_another_to_a_newer_key_which_leaves_nothing_behind(
    db: Database, process: Process, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "MAX_ROWS", 2)
    await fill(process, tenant_id, 12)
    await process.keyring.renew_field_key(tenant_id)
    write, batches, newest = Resealing._write, 0, b""

    async def renew_meanwhile(self: Resealing, transaction: Database, work: Replacement) -> int:
        nonlocal newest, batches
        batches += 1
        if batches == 3:
            newest = await process.keyring.renew_field_key(tenant_id)
            await begin_walk(db, tenant_id, Relation.MESSAGE, newest)
        return await write(self, transaction, work)

    with monkeypatch.context() as renewed:
        renewed.setattr(Resealing, "_write", renew_meanwhile)
        with pytest.raises(Conflict, match="another command"):
            await Resealing(db, process.keyring, tenant_id, Relation.MESSAGE).run(Pace(0), REPORTS_NOTHING)
    await reseal(process, tenant_id)
    assert await key_ids(db) == {newest}


async def test_what_was_changed_or_deleted_meanwhile_is_left_to_the_next_run(
    db: Database, process: Process, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        await process.accept(tenant_id, number, recipient=None)
    ids = [row["message_id"] for row in await db.fetch("SELECT message_id FROM message ORDER BY message_id")]
    old_key = (await process.keyring.tenant(tenant_id)).field_key
    changed = old_key.seal("message.content", ids[0], b"written meanwhile")
    newest = await process.keyring.renew_field_key(tenant_id)
    work = Resealing(db, process.keyring, tenant_id, Relation.MESSAGE)
    write = Resealing._write

    async def write_late(self: Resealing, transaction: Database, work: Replacement) -> int:
        await db.execute("UPDATE message SET sealed_content = $2 WHERE message_id = $1", ids[0], changed)
        await db.execute("DELETE FROM message WHERE message_id = $1", ids[1])
        return await write(self, transaction, work)

    with monkeypatch.context() as late:
        late.setattr(Resealing, "_write", write_late)
        assert await work.run(Pace(0), REPORTS_NOTHING) == Counts(moved=2, skipped=2)
    stored = {row["message_id"]: row["sealed_content"] for row in await db.fetch("SELECT * FROM message")}
    assert stored[ids[0]] == changed
    assert await work.run(Pace(0), REPORTS_NOTHING) == Counts(moved=1)
    assert await key_ids(db) == {newest}


async def test_a_value_that_does_not_open_is_counted_named_and_left_as_it_is(
    db: Database, process: Process, tenant_id: UUID
) -> None:
    for number in range(5):
        await process.accept(tenant_id, number)
    broken = "UPDATE message SET sealed_content = set_byte(sealed_content, 60, get_byte(sealed_content, 60) # 1)"
    (row,) = await db.fetch(
        f"{broken} WHERE message_id = (SELECT min(message_id::text)::uuid FROM message) RETURNING message_id, sealed_content"
    )
    newest = await process.keyring.renew_field_key(tenant_id)
    reports: list[Report] = []
    work = Resealing(db, process.keyring, tenant_id, Relation.MESSAGE)

    assert await work.run(Pace(0), reports.append) == Counts(moved=9, unreadable=1)
    assert [found for report in reports for found in report.unreadable] == [row["message_id"]]
    kept = await db.fetch("SELECT sealed_content, sealed_tax_id FROM message WHERE message_id = $1", row["message_id"])
    assert kept[0]["sealed_content"] == row["sealed_content"]
    assert kept[0]["sealed_tax_id"][2:18] == newest
    assert await work.run(Pace(0), reports.append) == Counts(unreadable=1), "it is met again by every run"


async def test_values_under_a_key_that_does_not_exist_or_was_destroyed_are_unreadable(
    db: Database, process: Process, tenant_id: UUID
) -> None:
    await process.accept(tenant_id, 1, recipient=None)
    await process.accept(tenant_id, 2, recipient=None)
    await db.execute(
        "UPDATE message SET sealed_content = overlay(sealed_content PLACING '\\x00' FROM 3)"
        " WHERE message_id = (SELECT max(message_id::text)::uuid FROM message)"
    )
    await process.keyring.renew_field_key(tenant_id)
    await db.execute("UPDATE crypto_key SET state = 'destroyed' WHERE state = 'decrypt_only'")
    assert await reseal(await Process.start(db), tenant_id) == Counts(unreadable=2)


async def test_an_old_key_out_of_reach_stops_the_run_and_loses_nothing(
    db: Database, process: Process, tenant_id: UUID
) -> None:
    await fill(process, tenant_id, 4)
    before = await open_all(db, process.keyring, tenant_id)
    newest = await process.keyring.renew_field_key(tenant_id)
    wraps = await db.fetch("SELECT key_id, parent_id, blob FROM crypto_key_wrap")
    fresh = await Process.start(db)
    await db.execute("DELETE FROM crypto_key_wrap WHERE key_id <> ALL (SELECT key_id FROM crypto_key_in_use)")
    with pytest.raises(KeyUnavailable):
        await reseal(fresh, tenant_id)
    await db.execute("DELETE FROM crypto_key_wrap")
    for wrapped in wraps:
        await db.execute("INSERT INTO crypto_key_wrap (key_id, parent_id, blob) VALUES ($1, $2, $3)", *wrapped)
    again = await Process.start(db)
    await reseal(again, tenant_id)
    await assert_moved(again, tenant_id, before, newest)


async def test_a_run_about_an_older_key_begins_anew(
    db: Database, process: Process, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "MAX_ROWS", 2)
    await fill(process, tenant_id, 6)
    await process.keyring.renew_field_key(tenant_id)

    def kill(_: Report) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await reseal(process, tenant_id, kill)
    newest = await process.keyring.renew_field_key(tenant_id)
    await reseal(process, tenant_id)
    assert await key_ids(db) == {newest}


async def test_a_page_is_bounded_by_bytes_and_holds_one_row_at_least(
    db: Database, process: Process, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(process, tenant_id, 5)
    newest = await process.keyring.renew_field_key(tenant_id)
    monkeypatch.setattr(walking, "MAX_OCTETS", 1)
    reports: list[Report] = []
    await reseal(process, tenant_id, reports.append)
    a_webhook_has = 3  # endpoint, secret and old secret; a message has two, and of what has one value one is in a batch
    assert max(report.counts.moved for report in reports) == a_webhook_has
    assert await key_ids(db) == {newest}


async def test_a_slow_pace_makes_small_batches(db: Database, process: Process, tenant_id: UUID) -> None:
    for number in range(6):
        await process.accept(tenant_id, number, recipient=None)
    await process.keyring.renew_field_key(tenant_id)
    reports: list[Report] = []
    await reseal(process, tenant_id, reports.append, rate=4)
    assert max(report.rows for report in reports) == 2


async def test_a_page_for_a_thread_says_which_values_are_not_the_tenants(process: Process, tenant_id: UUID) -> None:
    old_keys = OldKeys(process.keyring, uuid4())
    row = uuid4()
    sealed = (await process.keyring.tenant(tenant_id)).seal("event.reply", row, b"250")
    page = SealedPage((row,), (row,), (1,), ((sealed,),))
    await old_keys.load(page)
    assert old_keys.open("event.reply", [row], [sealed]) == [None]
    newest = FieldKey(bytes(32), tenant_id)
    assert reseal_page(page, Relation.EVENT, old_keys, newest) == Done((page, [[None]]), 0, (row,))


class ForgetfulKey(FieldKey):
    """Seals something else than it was given, or something that does not open."""

    is_torn = False

    def seal_all(self, field: str, row_ids: Sequence[UUID], column: Sequence[bytes | None]) -> list[bytes | None]:
        sealed = super().seal_all(field, row_ids, [value and b"something else" for value in column])
        return [value and value[:-1] for value in sealed] if self.is_torn else sealed


@pytest.mark.parametrize("is_torn", [False, True], ids=["another text", "cut short"])
async def test_nothing_of_a_batch_is_written_when_its_first_value_was_not_sealed_as_it_was(
    process: Process, tenant_id: UUID, is_torn: bool
) -> None:
    message_id = uuid4()
    sealed = (await process.keyring.tenant(tenant_id)).seal("message.content", message_id, b"what must stay")
    page = SealedPage((message_id,), (message_id,), (1,), ((sealed,), (None,)))
    old_keys = OldKeys(process.keyring, tenant_id)
    await old_keys.load(page)
    key = ForgetfulKey(bytes(32), tenant_id)
    key.is_torn = is_torn
    with pytest.raises(OperatorError, match="was not sealed as it was"):
        reseal_page(page, Relation.MESSAGE, old_keys, key)
