"""Large bodies in a process of their own: prepared as small ones are, refused as they are, and what ends it loses nothing."""

import asyncio
import json
import os
import signal
import uuid
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from email_gateway.api import preparer as room
from email_gateway.api.bodies import LargeBody
from email_gateway.api.preparer import Preparer, Work
from email_gateway.api.preparing import Order, prepare
from email_gateway.api.problems import UnsupportedMediaType
from email_gateway.errors import InvalidRequest, Overloaded
from email_gateway.mail.content import Attachment, Content
from email_gateway.store.accepting import PIECE_BYTES, ROW_BYTES, NewRequest
from email_gateway.vault.data_keys import FieldKey, IndexKey, make_material
from email_gateway.vault.tenant_keys import TenantKeys
from tests.api.house import email
from tests.marks import MARK

pytestmark = pytest.mark.anyio

ONE = Order("one", {}, None)
FILE = os.urandom(PIECE_BYTES * 3)


@pytest.fixture
def keys() -> TenantKeys:
    tenant_id = uuid.uuid4()
    index_key, beside = (IndexKey(make_material(), tenant_id) for _ in range(2))
    return TenantKeys(tenant_id, FieldKey(make_material(), tenant_id), index_key, (beside,))


@pytest.fixture
async def preparer() -> AsyncIterator[Preparer]:
    preparer = Preparer()
    yield preparer
    preparer.close()


def body_of(**fields: object) -> bytes:
    return json.dumps(email(**fields)).encode()


def with_file(name: str = "a.pdf") -> bytes:
    return body_of(attachments=[{"filename": name, "content": b64encode(FILE).decode()}])


async def prepared(preparer: Preparer, keys: TenantKeys, raw: bytes, order: Order = ONE) -> NewRequest:
    body = LargeBody()
    body.add(raw)
    try:
        return await preparer.prepare(order, keys, body)
    finally:
        body.close()


def pid_of(preparer: Preparer) -> int:
    assert preparer.pid is not None
    return preparer.pid


def names_in_environ(pid: int) -> set[str]:
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return {entry.partition(b"=")[0].decode() for entry in entries if entry}


async def test_a_large_message_is_prepared_as_a_small_one_is(preparer: Preparer, keys: TenantKeys) -> None:
    raw, order = with_file(), Order("one", {b"content-type": b"application/json"}, b"a-key")
    there, here = await prepared(preparer, keys, raw, order), prepare(order, keys, raw)
    (message,), (attachment,) = there.messages, there.messages[0].attachments
    assert there.tenant_id == keys.tenant_id
    assert there.idempotency == here.idempotency
    assert len(there.idempotency) == 2, "under both index keys"
    assert there.response == b'{"id":"%s"}' % str(message.message_id).encode()
    assert message.blind == here.messages[0].blind
    content = keys.field_key.open("message.content", message.message_id, message.sealed_content)
    assert msgspec.msgpack.decode(content, type=Content).subject == "Your invoice"
    sealed = attachment.sealed + bytes(attachment.rest)
    opened = keys.field_key.open("attachment.content", attachment.attachment_id, sealed)
    assert msgspec.msgpack.decode(opened, type=Attachment) == Attachment("a.pdf", "application/pdf", FILE)
    assert {len(row) for piece in message.pieces() for _, _, row in piece[:-1]} == {ROW_BYTES}


async def test_a_batch_is_prepared_too(preparer: Preparer, keys: TenantKeys) -> None:
    raw = b"[%s, %s, {}]" % (with_file(), body_of())
    request = await prepared(preparer, keys, raw, Order("permissive", {}, None))
    assert len(request.messages) == 2
    assert json.loads(request.response)["errors"][0]["index"] == 2


async def test_what_is_refused_here_is_refused_there(preparer: Preparer, keys: TenantKeys) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await prepared(preparer, keys, body_of(subject=f"{MARK}\r\n"))
    assert [fault.pointer for fault in refused.value.faults] == ["/subject"]
    with pytest.raises(UnsupportedMediaType):
        await prepared(preparer, keys, with_file(), Order("one", {b"content-type": b"text/plain"}, None))
    assert len((await prepared(preparer, keys, with_file())).messages) == 1, "it goes on"


async def test_one_that_dies_over_a_message_fails_that_message_alone(preparer: Preparer, keys: TenantKeys) -> None:
    await prepared(preparer, keys, with_file())
    first = pid_of(preparer)
    os.kill(first, signal.SIGSTOP)  # it holds the next one
    waiting = asyncio.create_task(prepared(preparer, keys, with_file()))
    await asyncio.sleep(0.1)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(Overloaded, match="ended"):
        await waiting
    assert len((await prepared(preparer, keys, with_file())).messages) == 1
    assert pid_of(preparer) != first


async def test_one_that_died_while_idle_is_started_again_unnoticed(preparer: Preparer, keys: TenantKeys) -> None:
    await prepared(preparer, keys, with_file())
    first = pid_of(preparer)
    os.kill(first, signal.SIGKILL)
    await asyncio.to_thread(os.waitid, os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert len((await prepared(preparer, keys, with_file())).messages) == 1


async def test_a_caller_that_gives_up_leaves_no_answer_for_the_next(preparer: Preparer, keys: TenantKeys) -> None:
    await prepared(preparer, keys, with_file())
    given_up = asyncio.create_task(prepared(preparer, keys, with_file("given-up.pdf")))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    (message,) = (await prepared(preparer, keys, with_file("next.pdf"))).messages
    attachment = message.attachments[0]
    opened = keys.field_key.open(
        "attachment.content", attachment.attachment_id, attachment.sealed + bytes(attachment.rest)
    )
    assert msgspec.msgpack.decode(opened, type=Attachment).filename == "next.pdf"


async def test_a_mistake_of_ours_is_told_by_its_class_alone(preparer: Preparer, keys: TenantKeys) -> None:
    unknown = Order("another", {}, None)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=r"could not be prepared: ValidationError$"):
        await prepared(preparer, keys, with_file(MARK), unknown)


async def test_one_that_cannot_be_started_asks_to_try_again(keys: TenantKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "COMMAND", ("/nowhere/python",))
    with pytest.raises(Overloaded, match="cannot be started"):
        await prepared(Preparer(), keys, with_file())


async def test_a_supervisor_that_stops_the_whole_group_leaves_it_at_work(preparer: Preparer, keys: TenantKeys) -> None:
    await prepared(preparer, keys, with_file())
    pid = pid_of(preparer)
    os.kill(pid, signal.SIGTERM)
    await prepared(preparer, keys, with_file())
    assert pid_of(preparer) == pid


async def test_it_has_no_setting_and_no_credential(
    preparer: Preparer, keys: TenantKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", MARK)
    await prepared(preparer, keys, with_file())
    assert names_in_environ(pid_of(preparer)) <= set(room.INHERITED)


def test_what_it_is_sent_shows_nothing(keys: TenantKeys) -> None:
    work = Work(Order("one", {}, MARK.encode()), keys.tenant_id, keys.field_key.material, ())
    assert repr(work) == "Work(Order(one))"
